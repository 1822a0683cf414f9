"""The stages and the `cemiface` command. May import every other package; nothing imports this one."""

SUITE = "CemiFace batch suite"  # the project's name, as a page is headed
