#!/usr/bin/env bash
# Workers of one study as a job array, each with one GPU, all joining one PostgreSQL. Checked by shellcheck; not run on a
# cluster by us.
#
#   export OPTUNA_STORAGE=postgresql+psycopg://me@dbhost/search OPTUNA_STORAGE_PASSWORD_FILE=$HOME/.archsearch-password
#   sbatch --array=1-8 deploy/slurm.sh --study=cifar10 --trials=1000
#
# Two minutes before the time limit, or when preempted, SLURM sends SIGTERM: the trial is checkpointed and queued again,
# and --requeue starts the worker anew. The folders must be on a disk that all nodes share.
#SBATCH --job-name=archsearch
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=08:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=archsearch-%A-%a.log
set -euo pipefail

: "${OPTUNA_STORAGE:?a PostgreSQL that all nodes reach: SQLite serves one machine}"
cd "${SLURM_SUBMIT_DIR:-.}"
export ARCHSEARCH_CHECKPOINTS="${ARCHSEARCH_CHECKPOINTS:-$PWD/checkpoints}"
export ARCHSEARCH_ARTIFACTS="${ARCHSEARCH_ARTIFACTS:-$PWD/studies/artifacts}"
# srun passes the signal on to the worker itself, and the study is done when it ends with 0
exec srun --ntasks=1 "${PYTHON:-.venv/bin/python}" -m search.run --workers=1 --device=cuda "$@"
