//! How the rooms of the edge count. Each room declares its own counters with [`metrics!`] beside what it counts.
//!
//! Invariant: nothing here knows what is counted. Labels take closed sets of words, and counting never looks a label up.

use std::marker::PhantomData;

use prometheus::core::Collector;
use prometheus::{Encoder as _, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::words::Words;

/// A number that only grows.
pub(crate) type Counter = IntCounter;

/// A number that goes up and down.
pub(crate) type Gauge = IntGauge;

/// Where all counters of one edge are registered.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    registry: Registry,
}

/// A counter for each word of a closed set.
pub(crate) struct CounterOf<W> {
    counters: Box<[IntCounter]>,
    words: PhantomData<fn(W)>,
}

/// A gauge for each word of a closed set.
pub(crate) struct GaugeOf<W> {
    gauges: Box<[IntGauge]>,
    words: PhantomData<fn(W)>,
}

/// Something that can be registered under a name.
pub(crate) trait Metric: Sized {
    /// Registers a metric that stands at zero.
    fn register(metrics: &Metrics, name: &str, help: &str) -> Result<Self, prometheus::Error>;
}

/// Declares the counters of one room: `field: kind = (name, help)`. The name goes into `metrics.txt` without its prefix.
macro_rules! metrics {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($field:ident: $kind:ty = ($metric:literal, $help:literal),)+
        }
    ) => {
        $(#[$meta])*
        $vis struct $name {
            $(#[doc = $help] pub(crate) $field: $kind,)+
        }

        impl $name {
            /// Counters that stand at zero, registered in `metrics`.
            pub(crate) fn register(
                metrics: &$crate::metrics::Metrics,
            ) -> Result<std::sync::Arc<Self>, prometheus::Error> {
                Ok(std::sync::Arc::new(Self {
                    $($field: <$kind as $crate::metrics::Metric>::register(metrics, $metric, $help)?,)+
                }))
            }
        }
    };
}

pub(crate) use metrics;

// === impl Metrics ===

impl Metrics {
    /// Everything in the Prometheus text format.
    pub(crate) fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// One line for each metric, in the form of `metrics.txt`.
    #[cfg(test)]
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.registry.gather().iter().map(line).collect();
        lines.sort();
        lines
    }

    fn registered<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("appproxy").subsystem("edge")
}

#[cfg(test)]
fn line(family: &prometheus::proto::MetricFamily) -> String {
    let kind = format!("{:?}", family.get_field_type()).to_lowercase();
    let pairs = family.get_metric().iter().flat_map(|metric| metric.get_label());
    let mut labels: Vec<String> = pairs.map(|pair| format!("{}={}", pair.name(), pair.value())).collect();
    labels.sort();
    format!("{} {kind} [{}] {}", family.name(), labels.join(" "), family.help())
}

// === impl Metric ===

impl Metric for Counter {
    fn register(metrics: &Metrics, name: &str, help: &str) -> Result<Self, prometheus::Error> {
        metrics.registered(IntCounter::with_opts(opts(name, help))?)
    }
}

impl Metric for Gauge {
    fn register(metrics: &Metrics, name: &str, help: &str) -> Result<Self, prometheus::Error> {
        metrics.registered(IntGauge::with_opts(opts(name, help))?)
    }
}

impl<W: Words> Metric for CounterOf<W> {
    fn register(metrics: &Metrics, name: &str, help: &str) -> Result<Self, prometheus::Error> {
        let vector = metrics.registered(IntCounterVec::new(opts(name, help), &[W::LABEL])?)?;
        let counters = W::ALL.iter().map(|word| vector.with_label_values(&[word.as_str()])).collect();
        Ok(Self { counters, words: PhantomData })
    }
}

impl<W: Words> Metric for GaugeOf<W> {
    fn register(metrics: &Metrics, name: &str, help: &str) -> Result<Self, prometheus::Error> {
        let vector = metrics.registered(IntGaugeVec::new(opts(name, help), &[W::LABEL])?)?;
        let gauges = W::ALL.iter().map(|word| vector.with_label_values(&[word.as_str()])).collect();
        Ok(Self { gauges, words: PhantomData })
    }
}

// === impl CounterOf ===

impl<W: Words> CounterOf<W> {
    /// One more of this word.
    pub(crate) fn inc(&self, word: W) {
        self.add(word, 1);
    }

    /// So many more of this word.
    pub(crate) fn add(&self, word: W, count: u64) {
        if let Some(counter) = self.counters.get(word.index()) {
            counter.inc_by(count);
        }
    }

    /// How many of this word there were.
    #[cfg(test)]
    pub(crate) fn get(&self, word: W) -> u64 {
        self.counters.get(word.index()).map_or(0, IntCounter::get)
    }
}

// === impl GaugeOf ===

impl<W: Words> GaugeOf<W> {
    /// 1 for this word and 0 for all others; without a word 0 for all.
    pub(crate) fn set_only(&self, word: Option<W>) {
        for (index, gauge) in self.gauges.iter().enumerate() {
            gauge.set(i64::from(word.is_some_and(|word| word.index() == index)));
        }
    }
}

/// A count as a gauge takes it.
pub(crate) fn as_gauge(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::words;

    words! {
        /// An example.
        enum Fruit in "fruit" {
            /// One.
            Apple = "apple",
            /// Another.
            Pear = "pear",
        }
    }

    metrics! {
        /// Counters of an example.
        struct Basket {
            fruits: CounterOf<Fruit> = ("fruits_total", "Fruits by kind"),
            best: GaugeOf<Fruit> = ("best", "The best fruit"),
            weight: Gauge = ("weight", "Weight of the basket"),
        }
    }

    #[test]
    fn each_word_counts_by_itself() {
        let metrics = Metrics::default();
        let basket = Basket::register(&metrics).expect("valid names");
        basket.fruits.add(Fruit::Pear, 3);
        basket.best.set_only(Some(Fruit::Pear));
        basket.weight.set(as_gauge(7_usize));
        assert_eq!((basket.fruits.get(Fruit::Apple), basket.fruits.get(Fruit::Pear)), (0, 3));
        let text = String::from_utf8(metrics.text().expect("text")).expect("text");
        for line in [
            "appproxy_edge_fruits_total{fruit=\"apple\"} 0",
            "appproxy_edge_fruits_total{fruit=\"pear\"} 3",
            "appproxy_edge_best{fruit=\"apple\"} 0",
            "appproxy_edge_best{fruit=\"pear\"} 1",
            "appproxy_edge_weight 7",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        basket.best.set_only(None);
        let text = String::from_utf8(metrics.text().expect("text")).expect("text");
        assert!(text.contains("appproxy_edge_best{fruit=\"pear\"} 0"), "{text}");
    }

    #[test]
    fn a_name_is_registered_once() {
        let metrics = Metrics::default();
        assert!(Basket::register(&metrics).is_ok());
        assert!(Basket::register(&metrics).is_err());
    }
}
