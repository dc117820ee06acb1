"""What is weak, and how badly: figures against thresholds and against what they used to be. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from kloros.optimisation.model import THRESHOLDS, DetectorConfig, Figures, Severity, Weakness, WeaknessKind

ALPHA = 0.1
MOST_MODULES = 10_000
_LEAST_USUAL = 0.1
"""Whoever takes less than this share of its threshold has room for chance: 2 ms that become 5 are no spike."""


class Baseline(msgspec.Struct, frozen=True):
    """What a module's 95th percentile used to be, over how many reports."""

    p95_ms: float
    reports: int = 1

    def learnt(self, p95_ms: float, window: int) -> Baseline:
        """With one more report."""
        return Baseline(self.p95_ms + ALPHA * (p95_ms - self.p95_ms), min(self.reports + 1, window))


def severity_of_latency(ratio: float) -> Severity:
    """Over 1.5 MEDIUM, over 3 HIGH, over 5 CRITICAL, else LOW."""
    if ratio > 5:
        return Severity.CRITICAL
    if ratio > 3:
        return Severity.HIGH
    return Severity.MEDIUM if ratio > 1.5 else Severity.LOW


def severity_of_errors(ratio: float) -> Severity:
    """From 4 CRITICAL, over 2 HIGH, else MEDIUM."""
    if ratio >= 4:
        return Severity.CRITICAL
    return Severity.HIGH if ratio > 2 else Severity.MEDIUM


class Detector:
    """Judges figures. A threshold of one module may differ from the config's; that is what TUNE_THRESHOLD changes.

    It offers the `DetectorThresholds` port.
    """

    def __init__(
        self,
        config: DetectorConfig | None = None,
        tuned: Mapping[str, Mapping[str, float]] | None = None,
        baselines: Mapping[str, Baseline] | None = None,
    ) -> None:
        self.config = config or DetectorConfig()
        self._of: dict[str, DetectorConfig] = {}
        self.baselines: dict[str, Baseline] = dict(baselines or {})
        for module, thresholds in (tuned or {}).items():
            for metric, value in thresholds.items():
                self.set_threshold(module, metric, value)

    def config_of(self, module: str) -> DetectorConfig:
        """The thresholds that hold for a module."""
        return self._of.get(module, self.config)

    def threshold(self, module: str, metric: str) -> float | None:
        """One of them; None for what is no threshold."""
        return float(getattr(self.config_of(module), metric)) if metric in THRESHOLDS else None

    def set_threshold(self, module: str, metric: str, value: float) -> None:
        """From now on this one, for this module; raises ValueError for what is no threshold, or no figure."""
        if metric not in THRESHOLDS or (module not in self._of and len(self._of) >= MOST_MODULES):
            raise ValueError(f"{metric} of {module} cannot be tuned")
        changed = msgspec.structs.replace(self.config_of(module), **{metric: value})
        if changed == self.config:
            self._of.pop(module, None)
        else:
            self._of[module] = changed

    @property
    def tuned(self) -> dict[str, dict[str, float]]:
        """The thresholds that differ from the config's, by module: what must be kept."""
        return {
            module: {
                metric: getattr(own, metric)
                for metric in THRESHOLDS
                if getattr(own, metric) != getattr(self.config, metric)
            }
            for module, own in self._of.items()
        }

    def detect(self, report: Iterable[Figures]) -> list[Weakness]:
        """What is weak now, worst first; the baselines learn from all that is no spike."""
        found = []
        for figures in report:
            weak = self.judge(figures)
            found += weak
            is_spike = any(each.kind is WeaknessKind.LATENCY_SPIKE for each in weak)
            if not is_spike and figures.calls >= self.config_of(figures.module_name).min_samples:
                self._learn(figures)
        return sorted(found, key=lambda each: (-each.score, each.module_name, each.kind))

    def judge(self, figures: Figures) -> list[Weakness]:
        """What is weak in these figures; nothing is learnt from them."""
        return list(self._weaknesses(figures))

    def _weaknesses(self, figures: Figures) -> Iterator[Weakness]:
        config = self.config_of(figures.module_name)
        if figures.is_silent:
            yield _weakness(
                config, figures, WeaknessKind.DEGRADED, Severity.HIGH, "calls", 0.0, 1.0, 1.0, "nothing is heard of it"
            )
            return
        if figures.calls < config.min_samples:
            return
        spike = self._spike(config, figures)
        found = [*_latency(config, figures), *_errors(config, figures), *_throughput(config, figures)]
        if spike is not None:
            found.append(spike)
        kinds = {each.kind for each in found}
        if {WeaknessKind.HIGH_LATENCY, WeaknessKind.HIGH_ERROR_RATE} <= kinds:
            worst = max(found, key=lambda each: each.severity)
            told = " and ".join(sorted(kinds))
            found.append(
                _weakness(config, figures, WeaknessKind.DEGRADED, worst.severity, worst.metric, worst.value,
                          worst.threshold, worst.ratio, told)
            )  # fmt: skip
        yield from found

    def _spike(self, config: DetectorConfig, figures: Figures) -> Weakness | None:
        baseline = self.baselines.get(figures.module_name)
        if baseline is None or baseline.p95_ms <= 0:
            return None
        usual_ms = max(baseline.p95_ms, config.latency_p95_threshold_ms * _LEAST_USUAL)
        ratio = figures.p95_ms / usual_ms
        if ratio <= config.spike_ratio_threshold:
            return None
        told = f"p95 is {ratio:.1f} times what it used to be ({usual_ms:.1f} ms)"
        threshold = usual_ms * config.spike_ratio_threshold
        return _weakness(config, figures, WeaknessKind.LATENCY_SPIKE, severity_of_latency(ratio),
                         "spike_ratio_threshold", figures.p95_ms, threshold, ratio, told)  # fmt: skip

    def _learn(self, figures: Figures) -> None:
        known, window = self.baselines.get(figures.module_name), self.config_of(figures.module_name).baseline_window
        if known is not None:
            self.baselines[figures.module_name] = known.learnt(figures.p95_ms, window)
        elif len(self.baselines) < MOST_MODULES:
            self.baselines[figures.module_name] = Baseline(figures.p95_ms)


def _weakness(
    config: DetectorConfig, figures: Figures, kind: WeaknessKind, severity: Severity, metric: str, value: float,
    threshold: float, ratio: float, detail: str,
) -> Weakness:  # fmt: skip
    score = severity.share * config.severity_weights[severity - 1]
    return Weakness(figures.module_name, kind, severity, value, threshold, ratio, figures.calls, metric, score, detail)


def _ratio(value: float, threshold: float) -> float:
    return value / threshold if threshold > 0 else 1e9


def _latency(config: DetectorConfig, figures: Figures) -> Iterator[Weakness]:
    """One weakness for both percentiles: the worse of them."""
    over = [
        (_ratio(value, threshold), metric, value, threshold)
        for metric, value, threshold in (
            ("latency_p95_threshold_ms", figures.p95_ms, config.latency_p95_threshold_ms),
            ("latency_p99_threshold_ms", figures.p99_ms, config.latency_p99_threshold_ms),
        )
        if value > threshold
    ]
    if over:
        ratio, metric, value, threshold = max(over)
        told = f"{metric[8:11]} is {value:.1f} ms, over {threshold:g} ms"
        yield _weakness(config, figures, WeaknessKind.HIGH_LATENCY, severity_of_latency(ratio), metric, value,
                        threshold, ratio, told)  # fmt: skip


def _errors(config: DetectorConfig, figures: Figures) -> Iterator[Weakness]:
    rate, threshold = figures.error_rate, config.error_rate_threshold
    if rate > threshold:
        ratio = _ratio(rate, threshold)
        told = f"{figures.errors} of {figures.calls} failed, over {threshold:.1%}"
        yield _weakness(config, figures, WeaknessKind.HIGH_ERROR_RATE, severity_of_errors(ratio),
                        "error_rate_threshold", rate, threshold, ratio, told)  # fmt: skip


def _throughput(config: DetectorConfig, figures: Figures) -> Iterator[Weakness]:
    rps, threshold = figures.throughput_rps, config.min_throughput_rps
    if rps < threshold:
        ratio = _ratio(threshold, rps)
        told = f"{rps:.3g}/s, under {threshold:g}/s"
        yield _weakness(config, figures, WeaknessKind.LOW_THROUGHPUT, severity_of_latency(ratio),
                        "min_throughput_rps", rps, threshold, ratio, told)  # fmt: skip
