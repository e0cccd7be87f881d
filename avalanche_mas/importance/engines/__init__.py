"""The engines that measure Ω of one batch, and the reference they are checked against."""
