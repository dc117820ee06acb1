"""Services that cannot start, or do not stay: what an operator meets most."""

from __future__ import annotations

from tests.systemd.breakages.base import RUNS, Breakage, Ends, broken_unit, service, unit_file

PYTHON = "/usr/bin/python3"
NEEDS_48_MB = f"ExecStart={PYTHON} -c \"import time; hoard = b'x' * 42_000_000; time.sleep(1e6)\""
SERVES = PYTHON + " -m http.server --bind 127.0.0.1 {port}"
READS_CONFIG = (
    f"ExecStart={PYTHON} -c \"import time, tomllib; tomllib.load(open('/etc/try-config.toml', 'rb')); time.sleep(1e6)\""
)
WRITES_BOOK = f"User=nobody\nExecStart={PYTHON} -c \"import time; open('/srv/try-private/book', 'a'); time.sleep(1e6)\""
HANGS_ONCE = (
    "Type=notify\nNotifyAccess=all\nWatchdogSec=1s\nLimitCORE=0\n"
    "ExecStart=/bin/sh -c 'systemd-notify --ready; test -e /srv/hung || { touch /srv/hung; exec sleep infinity; };"
    " while :; do systemd-notify WATCHDOG=1; sleep 0.4; done'"
)

UNITS = (
    broken_unit(
        "missing binary",
        "ExecStart= names a program that is not there",
        "ExecStart=/opt/no/such/program --serve",
        concluded=r"/opt/no/such/program",
        evidence=(r"203", r"/opt/no/such/program.*no such file"),
    ),
    broken_unit(
        "bad interpreter",
        "a script begins with `#!` and an interpreter that is not there",
        "ExecStart=/srv/try-script",
        files={"/srv/try-script": "#!/opt/none/bin/python3\nprint('hello')\n"},
        concluded=r"/opt/none/bin/python3",
        evidence=(r"interpreter /opt/none/bin/python3 does not exist",),
    ),
    broken_unit(
        "wrong user",
        "User= names a user that does not exist",
        "User=nobody-knows-him\nExecStart=/bin/sleep infinity",
        concluded=r"nobody-knows-him",
        evidence=(r"217", r"no such user"),
    ),
    broken_unit(
        "working directory missing",
        "WorkingDirectory= names a directory that is not there",
        "WorkingDirectory=/srv/no/such/place\nExecStart=/bin/sleep infinity",
        concluded=r"/srv/no/such/place",
        evidence=(r"200", r"no such directory"),
    ),
    broken_unit(
        "crash loop",
        "a program that ends with an error at once, Restart=always: systemd gives up after 5 starts",
        "Restart=always\nRestartSec=50ms\nExecStart=/bin/sh -c 'echo \"fatal: no licence found\" >&2; exit 7'",
        concluded=r"too often|again and again|crash|given up|start limit",
        evidence=(r"no licence found", r"status 7"),
    ),
    broken_unit(
        "OOM kill",
        "a program that needs 48 MB, under MemoryMax=40M",
        f"MemoryMax=40M\nMemorySwapMax=0\n{NEEDS_48_MB}",
        concluded=r"memory",
        evidence=(r"MemoryMax", r"Killed process|result oom-kill|killed for want of memory"),
        ends=Ends.APPROVED,
    ),
    broken_unit(
        "port in use",
        "two programs that want 127.0.0.1:8087",
        f"ExecStart={SERVES.format(port=8087)}",
        mended=f"ExecStart={SERVES.format(port=8088)}",
        files={unit_file("try-holder.service"): service(f"ExecStart={SERVES.format(port=8087)}")},
        first="systemctl start try-holder; until ss --listening --tcp --no-header | grep -q :8087; do sleep 0.05; done",
        concluded=r"8087",
        evidence=(r"[Aa]ddress already in use", r"8087 is held by .*try-holder\.service"),
    ),
    broken_unit(
        "permission denied",
        "a program of the user nobody that writes to a file of root's",
        WRITES_BOOK,
        mended=None,
        mending="chmod 755 /srv/try-private; chown nobody /srv/try-private/book",
        files={"/srv/try-private/book": "begun by root\n"},
        concluded=r"/srv/try-private/book",
        evidence=(r"PermissionError|[Pp]ermission denied", r"nobody"),
    ),
    broken_unit(
        "config error",
        "a program whose settings file has a line that is no TOML",
        READS_CONFIG,
        mended=None,
        mending="printf 'interval = 5\\n' >/etc/try-config.toml",
        files={"/etc/try-config.toml": "interval = \n"},
        concluded=r"config|settings",
        evidence=(r"TOMLDecodeError",),
    ),
    broken_unit(
        "start time-out",
        "Type=notify, and it never says READY; TimeoutStartSec=2s",
        "Type=notify\nTimeoutStartSec=2s\nExecStart=/bin/sleep infinity",
        concluded=r"start|READY|ready",
        evidence=(r"tim(ed|e)[- ]?out",),
    ),
    broken_unit(
        "stop time-out",
        "a program that does not end when asked to; TimeoutStopSec=1s",
        "TimeoutStopSec=1s\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'",
        then="sleep 0.5; systemctl stop --no-block {unit}",
        concluded=r"stop",
        evidence=(r"tim(ed|e)[- ]?out",),
    ),
    broken_unit(
        "watchdog time-out",
        "a program that says READY and then hangs, the first time; WatchdogSec=1s",
        HANGS_ONCE,
        mended=None,
        concluded=r"watchdog|hung|hang",
        evidence=(r"[Ww]atchdog",),
        ends=Ends.HELPED,
    ),
    broken_unit(
        "killed",
        "SIGKILL, once, for a program without Restart=",
        RUNS,
        mended=None,
        then="systemctl kill --signal=KILL {unit}",
        concluded=r"SIGKILL",
        evidence=(r"signal 9",),
        ends=Ends.HELPED,
    ),
    broken_unit(
        "peer away",
        "a program that ends when it cannot reach its server, which is away for a few seconds",
        f"ExecStart={PYTHON} -c \"import socket, time; kept = socket.create_connection(('127.0.0.1', 8089));"
        ' time.sleep(1e6)"',
        mended=None,
        files={unit_file("try-peer.service"): service(f"ExecStart={SERVES.format(port=8089)}")},
        then="systemd-run --quiet --on-active=3s systemctl start try-peer.service",
        concluded=r"refused",
        evidence=(r"ConnectionRefusedError",),
        ends=Ends.HELPED,
    ),
    broken_unit(
        "segmentation fault",
        "a program that reads address 0 each time it is started",
        f'LimitCORE=0\nExecStart={PYTHON} -c "import ctypes; ctypes.string_at(0)"',
        concluded=r"SEGV",
        evidence=(r"SEGV|signal 11",),
        ends=Ends.NO_HELP,
    ),
    Breakage(
        kind="failed dependency",
        broken="an enabled service that requires another, which fails to start",
        gap_name="try-shop.service",
        files={
            unit_file("try-shop.service"): service(
                RUNS, "Requires=try-stock.service\nAfter=try-stock.service", "WantedBy=multi-user.target"
            ),
            unit_file("try-stock.service"): service(
                "Type=oneshot\nRemainAfterExit=yes\n"
                "ExecStart=/bin/sh -c 'test -e /srv/try-stock.db || { echo \"stock: no data\" >&2; exit 1; }'"
            ),
        },
        commands="systemctl enable --quiet try-shop\nsystemctl start --no-block try-shop",
        mending="touch /srv/try-stock.db\nsystemctl reset-failed try-stock\nsystemctl start --no-block try-shop",
        concluded=r"try-stock\.service",
        evidence=(r"try-stock\.service.*failed|[Dd]ependency",),
    ),
)
