"""The arms that come along. Others may be installed: a test that is about these names them."""

OURS = ("plain", "residual", "preact")
