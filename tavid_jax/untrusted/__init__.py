"""What readers of files from elsewhere share: limits, and reading that runs nothing it reads.

Everything here raises `UntrustedError` without naming the file; `reading` makes of it, and of what
libraries raise for damaged bytes, the error of the room that reads, which names it.
"""
