"""A place for a stranger's program: it computes, and can do nothing else.

    policy.py      what one program may read, write and use up
    readable.py    what the interpreter and its libraries need to read
    bpf.py         rules about system calls, as the program that the kernel runs
    syscalls.py    which system calls a program gets, and their numbers
    seccomp.py     gives the kernel that program
    landlock.py    which files a process may touch, kept by the kernel
    bubblewrap.py  a file system and a network of its own, by `bwrap`
    privileges.py  a program of root's does not run as root
    kernel.py      system calls that Python has no function for
    enter.py       a process locks itself in
    disk.py        how much a program has written
    results.py     what becomes of it
    start.py       starts a process that locks itself in
    choice.py      which mechanism works here, found by trying it
    trial.py       what is run for that
    __main__.py    the entry of a program process that is locked in

The program process locks itself in before it reads a byte that a peer has chosen, and for good. With
`bubblewrap` it starts in namespaces of its own, where nothing but what it needs is there; with Landlock it
sees the whole file system and is refused. System calls are filtered in both, alike: no sockets, no
processes, no other program in its place, no signals to others.
"""
