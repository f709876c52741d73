#!/usr/bin/env bash
# Workers of one study as a job array, each with one GPU, all joining one PostgreSQL. Checked by shellcheck; not run on a
# cluster by us.
#
#   export OPTUNA_STORAGE=postgresql+psycopg://me@dbhost/search OPTUNA_STORAGE_PASSWORD_FILE=$HOME/.archsearch-password
#   sbatch --array=1-8 deploy/slurm.sh --study=cifar10 --trials=1000
#
# Two minutes before the time limit, or when preempted, SLURM sends SIGTERM: the trial is checkpointed and queued again,
# and so is this job. The folders must be on a disk that all nodes share.
#SBATCH --job-name=archsearch
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=archsearch-%A-%a.log
set -euo pipefail

: "${OPTUNA_STORAGE:?a PostgreSQL that all nodes reach: SQLite serves one machine}"
cd "${SLURM_SUBMIT_DIR:-.}"
export ARCHSEARCH_CHECKPOINTS="${ARCHSEARCH_CHECKPOINTS:-$PWD/checkpoints}"
export ARCHSEARCH_ARTIFACTS="${ARCHSEARCH_ARTIFACTS:-$PWD/studies/artifacts}"
# jobs of a node may each see a GPU 0, which are different ones where the driver does not tell their names
export ARCHSEARCH_GPU_LOCKS="${ARCHSEARCH_GPU_LOCKS:-${TMPDIR:-/tmp}/archsearch-gpus-${SLURM_JOB_ID:-0}}"

told=no
srun --ntasks=1 "${PYTHON:-.venv/bin/python}" -m search.run --workers=1 --device=cuda "$@" &
worker=$!
trap 'told=yes; kill -TERM "$worker"' TERM
code=0
wait "$worker" || code=$?
if [ "$told" = yes ]; then
    wait "$worker" || true    # the first wait ends with the signal
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
