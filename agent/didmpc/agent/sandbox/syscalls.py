"""Which system calls a program gets, and their numbers (x86-64 and aarch64, `-` where there is none).

Allowed is what computing, files, pipes, timers and threads take. Refused with EPERM is what a program could
do harm with, by name, so that it reads as "not permitted"; whatever stands nowhere here does not exist
(ENOSYS): then libraries fall back to what does, as on an older kernel.
"""

import errno
import platform
import socket
from dataclasses import dataclass

from didmpc.agent.sandbox.bpf import AnyOf, Test, refuse

# The ones that a run makes most stand first.
_ALLOWED = """
read:0:63 write:1:64 recvfrom:45:207 recvmsg:47:212 sendmsg:46:211 epoll_wait:232:- epoll_pwait:281:22
epoll_pwait2:441:441 futex:202:98 epoll_ctl:233:21 readv:19:65 writev:20:66 clock_gettime:228:113
mmap:9:222 munmap:11:215 mremap:25:216 mprotect:10:226 madvise:28:233 brk:12:214 mincore:27:232
msync:26:227 membarrier:324:283 close:3:57 close_range:436:436 openat:257:56 open:2:- creat:85:-
fstat:5:80 newfstatat:262:79 stat:4:- lstat:6:- statx:332:291 statfs:137:43 fstatfs:138:44 access:21:-
faccessat:269:48 faccessat2:439:439 lseek:8:62 pread64:17:67 pwrite64:18:68 preadv:295:69 pwritev:296:70
preadv2:327:286 pwritev2:328:287 getdents64:217:61 getdents:78:- readlink:89:- readlinkat:267:78
getcwd:79:17 chdir:80:49 fchdir:81:50 mkdir:83:- mkdirat:258:34 rmdir:84:- unlink:87:- unlinkat:263:35
rename:82:- renameat:264:38 renameat2:316:276 truncate:76:45 ftruncate:77:46 fsync:74:82 fdatasync:75:83
sync_file_range:277:84 fadvise64:221:223 readahead:187:213 umask:95:166 copy_file_range:326:285
sendfile:40:71 flock:73:32 dup:32:23 dup2:33:- dup3:292:24 pipe:22:- pipe2:293:59 eventfd:284:-
eventfd2:290:19 poll:7:- ppoll:271:73 select:23:- pselect6:270:72 epoll_create:213:-
epoll_create1:291:20 timerfd_create:283:85 timerfd_settime:286:86 timerfd_gettime:287:87
futex_waitv:449:449 set_robust_list:273:99 get_robust_list:274:100 set_tid_address:218:96 rseq:334:293
gettid:186:178 sched_yield:24:124 sched_getaffinity:204:123 sched_getparam:143:121
sched_getscheduler:145:120 sched_get_priority_max:146:125 sched_get_priority_min:147:126
get_mempolicy:239:236 getcpu:309:168 arch_prctl:158:- exit:60:93 exit_group:231:94
restart_syscall:219:128 wait4:61:260 waitid:247:95 rt_sigaction:13:134 rt_sigprocmask:14:135
rt_sigreturn:15:139 rt_sigpending:127:136 rt_sigsuspend:130:133 rt_sigtimedwait:128:137
sigaltstack:131:132 pause:34:- alarm:37:- setitimer:38:103 getitimer:36:102 timer_create:222:107
timer_settime:223:110 timer_gettime:224:108 timer_getoverrun:225:109 timer_delete:226:111 signalfd:282:-
signalfd4:289:74 clock_getres:229:114 clock_nanosleep:230:115 nanosleep:35:101 gettimeofday:96:169
time:201:- times:100:153 getrandom:318:278 uname:63:160 sysinfo:99:179 getpid:39:172 getppid:110:173
getuid:102:174 geteuid:107:175 getgid:104:176 getegid:108:177 getresuid:118:148 getresgid:120:150
getgroups:115:158 getpgrp:111:- getpgid:121:155 getsid:124:156 getpriority:140:141 getrusage:98:165
getrlimit:97:163 capget:125:90 getsockname:51:204 getpeername:52:205 getsockopt:55:209 setsockopt:54:208
shutdown:48:210
"""
_CONDITIONAL = """
clone:56:220 kill:62:129 tgkill:234:131 ioctl:16:29 fcntl:72:25 prctl:157:167 socketpair:53:199
sendto:44:206 prlimit64:302:261
"""
# No sockets but the inherited one; no processes, nor another program in this one's place; nothing about other
# processes; no change of a file's mode, owner, times or attributes (which Landlock does not know), no links;
# no memory that the limit on address space does not count; nothing that takes privileges.
_REFUSED = """
socket:41:198 connect:42:203 bind:49:200 listen:50:201 accept:43:202 accept4:288:242 sendmmsg:307:269
recvmmsg:299:243 fork:57:- vfork:58:- execve:59:221 execveat:322:281 ptrace:101:117
process_vm_readv:310:270 process_vm_writev:311:271 process_madvise:440:440 kcmp:312:272 tkill:200:130
rt_sigqueueinfo:129:138 rt_tgsigqueueinfo:297:240 pidfd_open:434:434 pidfd_getfd:438:438
pidfd_send_signal:424:424 setsid:112:157 setpgid:109:154 unshare:272:97 setns:308:268 mount:165:40
umount2:166:39 pivot_root:155:41 chroot:161:51 mount_setattr:442:442 open_tree:428:428
move_mount:429:429 fsopen:430:430 fsmount:432:432 chmod:90:- fchmod:91:52 fchmodat:268:53
fchmodat2:452:452 chown:92:- fchown:93:55 lchown:94:- fchownat:260:54 utime:132:- utimes:235:-
utimensat:280:88 futimesat:261:- setxattr:188:5 lsetxattr:189:6 fsetxattr:190:7 removexattr:197:14
lremovexattr:198:15 fremovexattr:199:16 link:86:- linkat:265:37 symlink:88:- symlinkat:266:36
mknod:133:- mknodat:259:33 bpf:321:280 perf_event_open:298:241 userfaultfd:323:282 keyctl:250:219
add_key:248:217 request_key:249:218 shmget:29:194 shmat:30:196 shmctl:31:195 semget:64:190 semop:65:193
semctl:66:191 msgget:68:186 msgsnd:69:189 msgrcv:70:188 msgctl:71:187 mq_open:240:180 mq_unlink:241:181
open_by_handle_at:304:265 name_to_handle_at:303:264 inotify_init:253:- inotify_init1:294:26
fanotify_init:300:262 setpriority:141:140 sched_setaffinity:203:122 sched_setscheduler:144:119
sched_setparam:142:118 sched_setattr:314:274 ioprio_set:251:30 mlock:149:228 mlock2:325:284
mlockall:151:230 setuid:105:146 setgid:106:144 setreuid:113:145 setregid:114:143 setresuid:117:147
setresgid:119:149 setgroups:116:159 setfsuid:122:151 setfsgid:123:152 capset:126:91 setrlimit:160:164
personality:135:92 reboot:169:142 swapon:167:224 swapoff:168:225 init_module:175:105
finit_module:313:273 delete_module:176:106 kexec_load:246:104 acct:163:89 quotactl:179:60 syslog:103:116
settimeofday:164:170 clock_settime:227:112 adjtimex:159:171 clock_adjtime:305:266 sethostname:170:161
setdomainname:171:162 vhangup:153:58 ioperm:173:- iopl:172:- modify_ldt:154:-
"""
_UNSUPPORTED = "fallocate:285:47"  # blocks that no counter of written bytes sees

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # AUDIT_ARCH_*, column

_CLONE_THREAD = 0x00010000
_CLONE_NEW = 0x7E020000  # any namespace
_STREAM_KIND = 0xF  # the rest of a socket's type are flags
_IOCTLS = (
    0x5401,  # TCGETS: isatty
    0x5413,  # TIOCGWINSZ
    0x541B,  # FIONREAD
    0x5421,  # FIONBIO
    0x5450,  # FIONCLEX
    0x5451,  # FIOCLEX
)
# Not F_SETOWN, F_SETSIG (signals to others), F_SETLEASE (others wait), F_NOTIFY, F_SETPIPE_SZ.
_FCNTLS = (0, 1, 2, 3, 4, 5, 6, 7, 9, 36, 37, 38, 1030, 1032)
# PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_GET_SECCOMP, PR_CAPBSET_READ, PR_GET_NO_NEW_PRIVS, PR_SET_VMA;
# not PR_SET_PDEATHSIG: a program ends with its channel process.
_PRCTLS = (3, 15, 16, 21, 23, 39, 0x53564D41)


@dataclass(frozen=True, slots=True)
class Rules:
    """What `bpf.assemble` takes."""

    architecture: int
    allowed: tuple[int, ...]
    conditional: tuple[tuple[int, AnyOf, int], ...]
    refused: tuple[tuple[int, int], ...]
    otherwise: int = refuse(errno.ENOSYS)


def supported(machine: str | None = None) -> bool:
    """Whether the numbers of this machine are known here."""
    return (machine or platform.machine()) in _ARCHITECTURES


def rules(own_pid: int, machine: str | None = None) -> Rules:
    """The rules for the process `own_pid`. Raises KeyError where the machine is not `supported`."""
    architecture, column = _ARCHITECTURES[machine or platform.machine()]
    forbidden = refuse(errno.EPERM)
    conditions = _conditions(own_pid)
    refused = [(number, forbidden) for number in _numbers(_REFUSED, column).values()]
    refused += [(number, refuse(errno.EOPNOTSUPP)) for number in _numbers(_UNSUPPORTED, column).values()]
    return Rules(
        architecture,
        tuple(_numbers(_ALLOWED, column).values()),
        tuple(
            (number, conditions[name], forbidden) for name, number in _numbers(_CONDITIONAL, column).items()
        ),
        tuple(refused),
    )


def _conditions(own_pid: int) -> dict[str, AnyOf]:
    return {
        "clone": [[Test(0, _CLONE_THREAD, _CLONE_THREAD | _CLONE_NEW)]],
        "kill": [[Test(0, own_pid)]],
        "tgkill": [[Test(0, own_pid)]],
        "ioctl": [[Test(1, request)] for request in _IOCTLS],
        "fcntl": [[Test(1, command)] for command in _FCNTLS],
        "prctl": [[Test(0, option)] for option in _PRCTLS],
        # asyncio wakes itself through one; a stream cannot be turned to another address
        "socketpair": [[Test(0, socket.AF_UNIX), Test(1, socket.SOCK_STREAM, _STREAM_KIND)]],
        "sendto": [[Test(4, 0, wide=True)]],
        "prlimit64": [[Test(0, 0)], [Test(0, own_pid)]],
    }


def _numbers(table: str, column: int) -> dict[str, int]:
    found = {}
    for entry in table.split():
        name, *numbers = entry.split(":")
        if numbers[column] != "-":
            found[name] = int(numbers[column])
    return found
