"""The `cemiface` command: a module for each verb that is not a stage."""
