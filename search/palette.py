"""One colour and one symbol for each arm and each cause, wherever they are drawn."""

ARM_COLORS = {"plain": "#D55E00", "residual": "#0072B2", "preact": "#009E73"}
CAUSE_COLORS = {
    "fine": "#999999", "slow": "#F0E442", "vanished": "#56B4E9", "exploded": "#E69F00",
    "collapsed": "#CC79A7", "diverged": "#000000", "unknown": "#DDDDDD",
}  # fmt: skip
"""Both from Okabe & Ito's palette, which colour-blind people can tell apart; no colour is in both."""
SYMBOLS = {"plain": "circle", "residual": "square", "preact": "diamond"}
