"""How everybody does now, from what is kept of their cycles and what is heard of them."""

from __future__ import annotations

import msgspec

from kloros.daemon.cycle import Cycle
from kloros.optimisation import store
from kloros.optimisation.detector import Baseline, Detector
from kloros.optimisation.levers import module_of
from kloros.optimisation.live import Live
from kloros.optimisation.model import THRESHOLDS, ActionKind, DetectorConfig, Figures, Weakness, WeaknessKind
from kloros.optimisation.profiler import Profiler, Sample
from kloros.optimisation.samples import figures_of, spanned_s
from kloros.optimisation.settings import OptimiserSettings, detector_of
from kloros.units import seconds_to_us, us_to_seconds

BASELINES = "baselines"
_SILENT_INTERVALS = 3.0
_SILENT_WINDOWS = 1 / 3
_FRESH_WINDOWS = 1 / 15
_MANY = 20
_MIN_THROUGHPUT = "min_throughput_rps"


class Profile:
    """Of one cycle's moment."""

    def __init__(self, cycle: Cycle, settings: OptimiserSettings, live: Live, own: str) -> None:
        self._cycle, self._settings, self._live, self._own = cycle, settings, live, module_of(own)
        self.now_us = cycle.clock.wall_us()
        hearts = dict(live.hearts)
        self._schedules = {module_of(zooid): heart.schedule for zooid, heart in hearts.items() if heart.schedule}

    def figures(self) -> list[Figures]:
        """Of all that were heard of, or should have been; of those with rare cycles by their last few."""
        profile = self._settings.profile
        profiler = Profiler(profile.window_s, profile.samples)
        since_us = self.now_us - seconds_to_us(profile.window_s)
        rare: list[Figures] = []
        for module in self._modules():
            rows = store.samples(self._cycle, module, since_us, self.now_us, profile.samples)
            if self._is_silent(module):
                profiler.know(module)
            elif len(rows) < self._settings.detector.min_samples:
                rows = self._newest(module, self._settings.detector.min_samples)
                found = figures_of(module, rows, spanned_s(rows, profile.window_s))
                rare += [found] if found is not None else []
            else:
                profiler.fill(module, [Sample(row[0], row[1] * 1000, row[2]) for row in rows])
        return [*profiler.report(self.now_us), *rare]

    def known(self) -> int:
        """How many modules there are."""
        return len({*self._schedules, *store.modules_sampled(self._cycle)} - {self._own})

    def detector(self) -> Detector:
        """With the thresholds in force, and what it has learnt. Who is asked less often may do less."""
        base = DetectorConfig(**msgspec.structs.asdict(self._settings.detector))
        tuned: dict[str, dict[str, float]] = {}
        for module in self._settings.modules:
            own = detector_of(self._settings, module)
            tuned[module] = {
                metric: float(getattr(own, metric))
                for metric in THRESHOLDS
                if getattr(own, metric) != getattr(base, metric)
            }
        for knob in store.knobs(self._cycle, ActionKind.TUNE_THRESHOLD):
            if isinstance(knob.value, float | int):
                tuned.setdefault(knob.module, {})[knob.name] = float(knob.value)
        detector = Detector(base, tuned, self._cycle.load(BASELINES, dict[str, Baseline]) or {})
        for module, schedule in self._schedules.items():
            entry = self._live.entries.get(schedule)
            least_rps = detector.threshold(module, _MIN_THROUGHPUT)
            if entry is not None and entry.pace < 1 and least_rps:
                detector.set_threshold(module, _MIN_THROUGHPUT, least_rps * entry.pace)
        return detector

    def is_still(self, weakness: Weakness, detector: Detector) -> bool:
        """Whether the newest cycles alone show it too.

        Of few the worst is left out, for one is no trend, and the last must show it: who is well again is left alone.
        """
        if weakness.metric == "calls":
            return True
        module, least = weakness.module_name, self._settings.detector.min_samples
        fresh_us = seconds_to_us(self._settings.profile.window_s * _FRESH_WINDOWS)
        rows = store.samples(self._cycle, module, self.now_us - fresh_us, self.now_us, self._settings.profile.samples)
        if len(rows) <= least:
            rows = self._newest(module, least + 1)
        span_s = spanned_s(rows, self._settings.profile.window_s)
        looks = [rows]
        if len(rows) < _MANY and weakness.kind is not WeaknessKind.LOW_THROUGHPUT:
            looks = [sorted(rows, key=lambda row: (row[2], row[1]))[:-1], rows[-1:] * least]
        return all(
            figures is not None and any(each.kind is weakness.kind for each in detector.judge(figures))
            for figures in (figures_of(module, each, span_s) for each in looks)
        )

    def _modules(self) -> list[str]:
        return [
            module
            for module in sorted({*self._schedules, *store.modules_sampled(self._cycle)})
            if module != self._own and not ((own := self._settings.modules.get(module)) is not None and own.ignored)
        ]

    def _newest(self, module: str, most: int) -> list[tuple[int, float, bool, str]]:
        oldest_us = self.now_us - seconds_to_us(self._settings.profile.keep_s)
        return store.samples(self._cycle, module, oldest_us, self.now_us, most)

    def _is_silent(self, module: str) -> bool:
        """Whether nothing is heard of a module that should be: its entry runs, and several beats passed."""
        entry = self._live.entries.get(self._schedules.get(module, ""))
        if entry is None or entry.paused:
            return False
        newest = self._newest(module, 1)
        quiet_s = self._cycle.clock.monotonic_s() - self._live.began_s
        if newest:
            quiet_s = min(quiet_s, us_to_seconds(self.now_us - newest[0][0]))
        longest_s = entry.interval_s / entry.pace * _SILENT_INTERVALS
        return quiet_s > max(longest_s, self._settings.profile.window_s * _SILENT_WINDOWS)
