"""A program that tries everything, one thing after another, and says on stdout what worked.

It is told, as JSON in its one argument, what there is to harm: see `harm` in ../outside.py.
"""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import resource
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading

TARGETS = json.loads(sys.argv[1])
KEY, HOME, INPUT, OUTSIDE = (TARGETS[name] for name in ("key", "home", "input", "outside"))
VICTIM = TARGETS["victim"]
ARM = platform.machine() == "aarch64"
libc = ctypes.CDLL(None, use_errno=True)
NOWHERE = ctypes.c_char_p(b"/there/is/none")
TRIED = {}


class Refused(Exception):
    """What was tried had no effect."""


def attack(function):
    """Remember a thing to try; it worked unless it raises."""
    TRIED[function.__name__] = function
    return function


def call(x86, arm, *arguments):
    """A raw system call."""
    passed = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = libc.syscall(ctypes.c_long(arm if ARM else x86), *passed)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def reap(pid):
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def simple(name, action):
    TRIED[name] = action


def let_through(action):
    """Whether the kernel got as far as to find fault with the arguments, which are harmless nonsense."""
    try:
        action()
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            raise


# --- secrets

SECRETS = [
    *(KEY, INPUT, TARGETS["hardlink"], "../../home/wallet.key", "/etc/shadow", "/etc/passwd", "/dev/mem"),
    *(f"/proc/{VICTIM}/environ", f"/proc/{VICTIM}/mem", f"/proc/{VICTIM}/cwd/wallet.key"),
    *(f"/proc/{who}/root{KEY}" for who in (1, "self", VICTIM, os.getppid())),
    "/proc/self/cwd/../../home/wallet.key",
]
for path in SECRETS:
    simple(f"read {path}", lambda path=path: os.read(os.open(path, os.O_RDONLY), 1))
for path in (HOME, "/home", "/var/log"):
    simple(f"list {path}", lambda path=path: os.listdir(path)[0])


@attack
def list_the_home_of_root():
    if not set(os.listdir("/root")) - set(
        sys.base_prefix.split("/")
    ):  # the way to the interpreter may be there
        raise Refused


@attack
def list_what_lies_beside():
    if "input.txt" not in os.listdir(os.path.dirname(INPUT)):
        raise Refused


@attack
def list_processes():
    if str(VICTIM) not in os.listdir("/proc"):
        raise Refused


@attack
def read_through_a_descriptor_of_the_parent():
    for number in range(64):
        try:
            os.open(f"/proc/{os.getppid()}/fd/{number}", os.O_RDONLY)
        except FileNotFoundError:
            continue
        return
    raise Refused


@attack
def read_by_file_handle():
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    mount = ctypes.c_int()
    call(303, 264, -100, ctypes.c_char_p(KEY.encode()), handle, ctypes.byref(mount), 0)


@attack
def use_a_stray_descriptor():
    for number in range(3, 1024):
        try:
            os.fstat(number)
        except OSError:
            continue
        return
    raise Refused


@attack
def see_the_environment_of_the_agent():
    if not [name for name in os.environ if name.startswith("DIDMPC")]:
        raise Refused


# --- writing elsewhere

for path in (f"{HOME}/planted", OUTSIDE + "/planted", *TARGETS["temporary"],
             TARGETS["bundle"] + "/planted", "/planted", "/proc/sys/kernel/core_pattern"):  # fmt: skip
    simple(f"write {path}", lambda path=path: os.open(path, os.O_WRONLY | os.O_CREAT))
OWN = TARGETS["scratch"]  # a file of this user, outside
simple("chmod", lambda: os.chmod(OWN, 0o666))
simple("chmod of a descriptor", lambda: os.fchmod(os.open(TARGETS["own_in_bundle"], os.O_RDONLY), 0o666))
simple("utime", lambda: os.utime(OWN, (1, 1)))
simple("setxattr", lambda: os.setxattr(OWN, "user.x", b"1"))
simple("truncate", lambda: os.truncate(OWN, 1))
simple("append", lambda: os.write(os.open(OWN, os.O_WRONLY | os.O_APPEND), b"x"))
simple("link", lambda: os.link(OWN, "linked"))
simple("symlink", lambda: os.symlink("/etc", "link"))
simple("rename out", lambda: os.rename(OWN, "stolen"))
simple("rename in", lambda: (open("mine", "w").close(), os.rename("mine", OUTSIDE + "/mine")))
simple("fifo", lambda: os.mkfifo("fifo"))
simple("device", lambda: os.mknod("disk", 0o600 | 0o060000, os.makedev(254, 0)))
simple("change the bundle", lambda: os.open(TARGETS["own_in_bundle"], os.O_WRONLY | os.O_TRUNC))
simple("unlink from the bundle", lambda: os.unlink(TARGETS["own_in_bundle"]))
simple("unlink", lambda: os.unlink(OWN))

# --- the network

for name in ("AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG"):
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET)
    for kind in kinds:
        simple(
            f"socket {name} {kind.name}",
            lambda name=name, kind=kind: socket.socket(getattr(socket, name), kind),
        )


@attack
def connect_to_the_mediator():
    socket.create_connection(("127.0.0.1", TARGETS["port"]), 2).sendall(b"x")


@attack
def connect_to_the_control_socket():
    socket.socket(socket.AF_UNIX).connect(TARGETS["control"])


@attack
def connect_to_an_abstract_socket():
    socket.socket(socket.AF_UNIX).connect("\0" + TARGETS["abstract"])


@attack
def turn_a_datagram_pair_to_the_abstract_socket():
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.connect("\0" + TARGETS["datagrams"])
    one.send(b"x")


@attack
def turn_a_stream_pair_to_the_control_socket():
    one, _ = socket.socketpair()
    one.connect(TARGETS["control"])


@attack
def listen():
    one, _ = socket.socketpair()
    one.listen()


simple("io_uring", lambda: call(425, 425, 8, ctypes.create_string_buffer(120)))
if not ARM:
    simple("socket by the x32 numbers", lambda: call(0x40000000 | 41, 0, 2, 1, 0))

# --- processes and other programs

simple("fork", lambda: reap(os.fork()))
simple("subprocess", lambda: subprocess.run(["/bin/true"], check=True))
simple("posix_spawn", lambda: reap(os.posix_spawn("/bin/true", ["true"], {})))
simple("clone", lambda: reap(call(56, 220, signal.SIGCHLD, 0, 0, 0, 0)))
CLONE3 = ctypes.create_string_buffer(struct.pack("8Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0))
simple("clone3", lambda: reap(call(435, 435, CLONE3, 64)))
simple("exec", lambda: let_through(lambda: os.execv("/there-is-none", ["x"])))


@attack
def set_uid_program():
    subprocess.run(["/bin/su", "--version"], check=True, stdout=subprocess.DEVNULL)


@attack
def memory_that_no_limit_counts():
    descriptor = call(319, 279, ctypes.c_char_p(b"hoard"), 0)
    os.ftruncate(descriptor, 1 << 40)


simple("shared memory", lambda: call(29, 194, 0, 4096, 0o1600))
simple("memory", lambda: bytes(2 * TARGETS["memory"]))
simple("mapped memory", lambda: mmap.mmap(-1, 2 * TARGETS["memory"]))
simple("raise the limit", lambda: resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2))


@attack
def more_threads_than_allowed():
    threading.stack_size(64 * 1024)
    stop = threading.Event()
    started = []
    try:
        for _ in range(TARGETS["threads"] + 50):
            thread = threading.Thread(target=stop.wait)
            thread.start()
            started.append(thread)
    finally:
        stop.set()
        for thread in started:
            thread.join()


@attack
def one_huge_file():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with open("huge", "wb") as file:
        os.pwrite(file.fileno(), b"x", TARGETS["file"] + 1)


@attack
def blocks_without_writing():
    descriptor = os.open("blocks", os.O_RDWR | os.O_CREAT)
    call(285, 47, descriptor, 0, 0, 1 << 16)


@attack
def more_descriptors_than_allowed():
    held = []
    try:
        while len(held) < 2048:
            held.append(os.open("/dev/null", os.O_RDONLY))
    finally:
        for each in held:
            os.close(each)


# --- the processes of others

simple("signal", lambda: os.kill(VICTIM, signal.SIGURG))
simple("signal to the parent", lambda: os.kill(os.getppid(), signal.SIGURG))
simple("signal to all", lambda: os.kill(-1, 0))
simple("signal to the group", lambda: os.killpg(TARGETS["group"], 0))
simple("queued signal", lambda: call(129, 138, VICTIM, 0, ctypes.create_string_buffer(128)))
simple("signal by input", lambda: fcntl.fcntl(0, fcntl.F_SETOWN, VICTIM))
simple("pidfd", lambda: os.pidfd_open(VICTIM))
simple("ptrace", lambda: call(101, 117, 0x4206, VICTIM, 0, 0))  # PTRACE_SEIZE
PIECES = ctypes.create_string_buffer(16)
simple("read memory", lambda: let_through(lambda: call(310, 270, VICTIM, PIECES, 1, PIECES, 1, 0)))
simple("limits of others", lambda: resource.prlimit(VICTIM, resource.RLIMIT_NOFILE, (64, 64)))
simple("priority of others", lambda: os.setpriority(os.PRIO_PROCESS, VICTIM, 19))
simple("cores of others", lambda: os.sched_setaffinity(VICTIM, {0}))
simple("watch files", lambda: call(294, 26, 0))

# --- privileges and namespaces

simple("root", lambda: os.setuid(0))
simple("user namespace", lambda: call(272, 97, 0x10000000))
simple("mount", lambda: let_through(lambda: call(165, 40, NOWHERE, NOWHERE, NOWHERE, 0, 0)))
simple("chroot", lambda: os.chroot("."))
simple("keys of the kernel", lambda: call(250, 219, 0, -3, 1))
simple("bpf", lambda: call(321, 280, 0, ctypes.create_string_buffer(128), 128))
COUNTER = ctypes.create_string_buffer(struct.pack("II", 1, 112) + bytes(112))
simple("perf", lambda: call(298, 241, COUNTER, 0, -1, -1, 0))
simple("page faults", lambda: call(323, 282, 1))
simple("outlive the parent", lambda: call(157, 167, 1, 0, 0, 0, 0))
simple("a session of its own", os.setsid)
simple("another group", lambda: os.setpgid(0, 0))

# --- the terminal

simple("take the terminal", lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 1))
simple("type on the terminal", lambda: fcntl.ioctl(0, termios.TIOCSTI, b"x"))
simple("open the terminal", lambda: os.open("/dev/tty", os.O_RDWR))


def main():
    worked, how = [], {}
    for name, action in TRIED.items():
        try:
            action()
        except (OSError, Refused, MemoryError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
            how[name] = errno.errorcode.get(getattr(error, "errno", None), type(error).__name__)
        else:
            worked.append(name)
    with open("result.txt", "w") as result:
        result.write("what it may")
    print(json.dumps({"worked": worked, "refused": how, "uid": os.getuid(), "groups": os.getgroups()}))


main()
