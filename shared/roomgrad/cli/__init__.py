"""The command line: one file per command, named after it.

A command's file imports what it needs when the command runs, so that `roomgrad --help` stays fast.
`target` finds the server and the run, `options` has the options that commands share, and `tables`
prints.
"""
