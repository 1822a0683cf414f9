"""The stages and the `cemiface` command. May import every other package; nothing imports this one."""
