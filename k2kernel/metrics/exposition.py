"""Numbers in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from k2kernel.metrics.instruments import Counter, Histogram, Instrument, Numbers


class _Collector(Collector):
    """The instruments as Prometheus' library knows them."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self._instruments = instruments

    def collect(self) -> Iterator[Metric]:
        """Each instrument with its series."""
        return map(_family, self._instruments)


def text(instruments: Iterable[Instrument]) -> bytes:
    """The instruments with every series they have."""
    registry = CollectorRegistry()
    registry.register(_Collector(instruments))
    return generate_latest(registry)


def _family(instrument: Instrument) -> Metric:
    series = list(instrument.series.items())
    if isinstance(instrument, Histogram):
        shown = HistogramMetricFamily(instrument.name, instrument.meaning, labels=instrument.label_names)
        for labels, numbers in series:
            shown.add_metric(labels, *_buckets(instrument, numbers))
        return shown
    made: type[CounterMetricFamily | GaugeMetricFamily]
    made = CounterMetricFamily if isinstance(instrument, Counter) else GaugeMetricFamily
    family = made(instrument.name, instrument.meaning, labels=instrument.label_names)
    for labels, (value,) in series:
        family.add_metric(labels, value)
    return family


def _buckets(histogram: Histogram, numbers: Numbers) -> tuple[list[tuple[str, float]], float]:
    """The running counts by their bounds, and the sum."""
    bounds = [*map(str, histogram.buckets), "+Inf"]
    return list(zip(bounds, accumulate(numbers[:-1]), strict=True)), numbers[-1]
