"""The `cemiface` command: a module per verb that is no stage."""
