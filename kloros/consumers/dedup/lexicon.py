"""What words mean where machines are watched: ways of saying the same thing, and how much each says. Pure.

A concept stands for all its words, in any inflection that `stem` knows; its weight says how much a question changes
when it is about that: what a question turns on weighs 1 or more, what is said in passing little. Phrases are looked
for first, in their order.
"""

from __future__ import annotations

import re
from functools import lru_cache
from types import MappingProxyType

_CONCEPTS = """
# Resources, and parts of a machine
cpu 1.5: cpu cpus processor
memory 1.5: memory ram
swap 1.5: swap paging
io 1.5: io throughput iops
inode 1.5: inode
descriptor 1.5: descriptor fd
network 1.2: network net
disk 0.7: disk drive ssd hdd
space 0.3: space room filesystem partition volume capacity byte
load 1.0: load
heat 1.2: temperature hot heat warm overheat
bus 1.0: bus chembus
queue 0.7: queue backlog outbox inbox
journal 0.3: journal log syslog logfile write written wrote
error 0.6: error
warning 1.0: warning
message 0.6: message signal packet
trigger 1.0: trigger
cycle 1.0: cycle
beat 0.8: beat tick
clock 1.0: clock
scanner 0.5: scanner scan
connection 0.8: connection connect connectivity link
address 0.8: address bind port
certificate 1.0: certificate cert
configuration 1.0: configuration config setting conf
dependency 1.2: dependency require requirement prerequisite
watchdog 1.5: watchdog
password 1.2: password passphrase
boot 0.6: boot reboot
update 0.6: upgrade update
# What happens
fail 1.0: fail failure crash die dead dying unhealthy broken break broke trouble abort down fault defect collapse
exit 0.3: exit
status 0.15: status code result
start 1.0: start launch begin began startup
stop 1.0: stop halt shutdown end terminate quit
restart 1.2: restart flap respawn bounce relaunch
kill 1.2: kill killer sigkill
timeout 1.2: timeout
hang 1.2: hang hung stuck freeze frozen froze unresponsive stall deadlock
answer 1.0: answer respond reply response
slow 1.0: slow sluggish overrun lag
late 1.0: late delay belated lateness
silent 1.2: silent silence mute quiet
fallback 1.2: fallback
full 1.0: full exhaust fill deplete overflow
empty 1.0: empty
grow 0.8: grow grew grown growth increase rise swell leak climb
shrink 1.0: shrink shrunk decrease fall
low 1.0: low little
much 0.25: much high heavy busy pressure excessive most usage use consume consumption eat ate hog burn many lot
wait 0.2: wait waiting
drop 1.0: drop discard
miss 1.0: miss lose lost loss
refuse 1.0: refuse reject decline
deny 1.0: deny forbid forbidden permission access privilege allow
invalid 1.0: invalid wrong bad malformed incorrect faulty
absent 1.0: absent gone nonexistent
expire 1.0: expire
readonly 1.5: readonly
mount 1.0: mount
blind 1.0: blind
inuse 0.5: inuse occupied taken
disconnect 1.2: disconnect offline unreachable
open 0.3: open
beyond 0.6: beyond faster
big 0.8: big large huge enormous
corrupt 1.2: corrupt corruption damage
execute 0.8: execute exec executable
not 0.6: not no never none cannot nothing without
# Said in passing
often 0.15: often repeat repeatedly again always constantly continually frequent frequently time today
wish 0.0: tell explain find say know idea reason
"""

_STOP = """
a able about after all almost already also an and any anybody are as at be became because become been before behind
being but by called came can cause come come's computer could daemon did do does doing done each earth either else
enough ever every for from get give given got had hardly has have having he her here hey hold host how however i if in
into is it its itself just keep kept lately lead let like machine made make makes may maybe me might mine more must my
near nearly need neither nor of off oh on once one only or other our out over own please possible process processes
program programs put quite rather really run running same server service shall she should since so some somebody
someone something still such suffer system task tasks than that the their them then there these they thing this those
though through to too turn under unit until up upon very want was way we well went were what what's whatever when
whenever where whether which while who whole whom whose why will with within won would yet you your
"""

_TAKES_ALL = (
    r"(?:us\w+|eat\w*|tak\w+|took|fill\w*) (?:up )?all(?: of)?(?: that| this| the)?"
    r"(?= (?:memory|ram|room|space|swap))"
)
_NOT_HEARD = (
    r"(?:has |have |is |are |was |been |be )*(?:not|nothing|never)(?: at all)?(?: has| have)? "
    r"(?:been |be |is |are )*(?:heard|reported)(?: from| of)?(?: any ?more)?"
)
# What they mean, and the ways of saying it.
_PHRASES: tuple[tuple[str, ...], ...] = (
    ("memory full kill", r"out[ -]of[ -]memory kill\w*", r"oom(?:[ -]kill\w*)?"),
    ("memory full", r"lack of memory", r"(?:ran |run\w* )?out[ -]of[ -]memory"),
    ("full", r"(?:run|ran|running|runs) out of", r"out of", r"hardly any", r"(?:are|is) no (?=[a-z]+ left)"),
    ("full", r"no space left", r"no room left", r"space left", r"room left", r"\bleft\b"),
    (
        "full",
        _TAKES_ALL,
    ),
    ("full", r"(?:us\w+|eat\w*|tak\w+|took|fill\w*) up"),
    ("watchdog", r"watchdog tim(?:e|ed)[ -]?out"),
    ("timeout", r"tim(?:e|es|ed|ing)[ -]?outs?", r"not finished in time", r"(?:takes?|took|taking) too long"),
    ("slow", r"(?:takes?|took|taking) (?:so |too |much )?long(?:er)?(?: than (?:it|they) may)?"),
    ("readonly", r"read[ -]only"),
    (
        "descriptor much",
        r"open files",
        r"files? open",
        r"open \w+ files",
        r"(?:as )?many files open(?: as it may)?",
        r"file descriptors?",
        r"files? handles?",
        r"fds?",
    ),
    ("disk space", r"disk space", r"file ?systems?"),
    ("io", r"i/o", r"input/output"),
    ("much wait", r"so busy that work has to wait"),
    ("big", r"(?:grown|grew|got|become) (?:so |too |very )?(?:large|big)"),
    ("beyond", r"than (?:it |they )?can be"),
    ("often", r"(?:again and again|over and over(?: again)?|all the time|time and again|in a row|many times)"),
    ("", r"at once", r"once more", r"any ?more", r"any longer", r"at all"),
    ("inuse", r"(?:already )?in use", r"already taken", r"is taken", r"is occupied"),
    (
        "fallback",
        r"(?:on|use|using|uses|used) (?:its|their|his) own clock",
        r"(?:hears?|hearing|gets?) no triggers?",
        r"(?:are )?no triggers? (?:are |is )?heard(?: by)?",
        r"fall\w* back(?: on)?",
        r"fell back",
    ),
    (
        "silent",
        _NOT_HEARD,
        r"nothing is heard",
        r"not report\w*",
    ),
    ("restart often", r"started too often(?: and given up)?", r"start[ -]limit(?:ed)?(?:[ -]hit)?"),
    ("often", r"until systemd gives up", r"when(?:ever)? (?:it is |it )?start\w*"),
    ("blind", r"not (?:be |been )?(?:able to )?(?:look|see)(?: anything)?"),
    ("absent", r"missing", r"not (?:be |been )?f(?:i|ou)nd", r"no such"),
    (
        "disconnect",
        r"disconnect\w*",
        r"los(?:es|e|ing|t) (?:its |the )?connections?",
        r"connections? (?:is |was |of |gets? )*lost",
    ),
    ("not answer", r"unresponsive"),
    ("restart", r"(?:has|have|had) to be restarted"),
    ("start", r"come up", r"comes up", r"came up"),
    (
        "not",
        r"(?:fail\w*|refus\w+|unable|impossible|not able|declin\w+) to",
        r"(?:prevent|hinder|keep|stop)\w* (?:\S+ )?from",
        r"can(?:no|')t",
        r"won't",
        r"doesn't",
        r"isn't",
        r"didn't",
        r"could not",
        r"may not",
        r"will not",
    ),
    ("not deny", r"lack\w* permission"),
    ("invalid", r"(?:wrong|the matter|up) with"),
    ("current", r"up to date"),
    ("much", r"so (?:much|many)", r"too (?:much|many)", r"a lot of", r"lots of", r"most of"),
    ("cpu", r"(?:cpu|processor) time"),
)

_VOWELS = frozenset("aeiouy")


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """The word without the commonest English endings: failing, failed and fails are fail."""
    if word in ("uses", "used", "using"):
        return "use"
    if len(word) > 4 and word.endswith(("ies", "ied")):
        word = word[:-3] + "y"
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-2] if word.endswith(("sses", "xes", "zes", "ches", "shes")) else word[:-1]
    if len(word) > 5 and word.endswith("ly"):
        word = word[:-2]
    for ending in ("ing", "ed"):
        root = word.removesuffix(ending)
        if root != word and len(root) > 2 and any(letter in _VOWELS for letter in root):
            word = root[:-1] if root[-1] == root[-2] and root[-1] not in "ls" else root
            break
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def _by_stem() -> dict[str, tuple[str, float]]:
    concepts = {}
    for line in _CONCEPTS.strip().splitlines():
        if not line.startswith("#"):
            name_and_weight, words = line.split(":")
            name, weight = name_and_weight.split()
            concepts.update({stem(word): (name, float(weight)) for word in words.split()})
    return concepts


CONCEPTS = MappingProxyType(_by_stem())
"""The concept, and its weight, by the stem of each of its words."""

_STOP_WORDS = frozenset(_STOP.split())
_PHRASE = tuple((re.compile(rf"(?<![\w-])(?:{'|'.join(ways)})(?![\w-])"), f" {said} ") for said, *ways in _PHRASES)


def with_phrases_as_words(text: str) -> str:
    """The text, which is in lower case, with phrases put as words that mean the same."""
    text = " ".join(text.replace("'s ", " ").split())
    for pattern, words in _PHRASE:
        text = " ".join(pattern.sub(words, text).split())
    return text


def is_stop_word(word: str) -> bool:
    """Whether the word says nothing about what a question is about."""
    return len(word) < 2 or word in _STOP_WORDS
