//! The metrics at one moment, in the JSON shape of vLLM's `LLM.get_metrics()`.

use serde::ser::{Serialize, SerializeMap, Serializer};

/// All metrics at one moment, in vLLM's order. As JSON: an array of objects with lower-case `type`, `name`, `labels`
/// and, by type, `value`; `values`; or `count`, `sum` and `buckets`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Snapshot(pub(super) Vec<Metric>);

/// One metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name; shared by metrics that differ in labels.
    pub name: &'static str,
    /// Its labels.
    pub labels: Labels,
    /// What it says.
    pub value: Value,
}

/// What a metric says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// How often something happened.
    Counter(u64),
    /// What is the case.
    Gauge(f64),
    /// How often something happened at each position.
    Vector(Vec<u64>),
    /// How observations spread.
    Histogram {
        /// Their sum.
        sum: f64,
        /// Upper bounds, the last infinite, and how many observations did not exceed each.
        buckets: Vec<(f64, u64)>,
    },
}

/// Labels, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<(&'static str, String)>);

impl Snapshot {
    /// All metrics.
    pub fn iter(&self) -> impl Iterator<Item = &Metric> {
        self.0.iter()
    }

    /// The first metric of this name.
    pub fn get(&self, name: &str) -> Option<&Metric> {
        self.0.iter().find(|metric| metric.name == name)
    }

    /// The value of the first counter of this name.
    pub fn counter(&self, name: &str) -> Option<u64> {
        match self.get(name)?.value {
            Value::Counter(value) => Some(value),
            _ => None,
        }
    }
}

impl Value {
    /// The type's name in JSON: the name of vLLM's class, in lower case.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) => "gauge",
            Self::Vector(_) => "vector",
            Self::Histogram { .. } => "histogram",
        }
    }
}

impl Labels {
    pub(super) fn push(&mut self, key: &'static str, value: impl Into<String>) {
        self.0.push((key, value.into()));
    }

    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// All labels, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(key, value)| (*key, value.as_str()))
    }
}

/// A bucket's bound as Python writes a float: `1.0`, `0.025`, `+Inf`.
pub(super) fn bound(bound: f64) -> String {
    if bound.is_infinite() { "+Inf".into() } else { format!("{bound:?}") }
}

/// The number of observations: those of the last bucket, which has no bound.
pub(super) fn count(buckets: &[(f64, u64)]) -> u64 {
    buckets.last().map_or(0, |&(_, count)| count)
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", self.value.kind())?;
        map.serialize_entry("name", self.name)?;
        map.serialize_entry("labels", &self.labels)?;
        match &self.value {
            Value::Counter(value) => map.serialize_entry("value", value)?,
            Value::Gauge(value) => map.serialize_entry("value", value)?,
            Value::Vector(values) => map.serialize_entry("values", values)?,
            Value::Histogram { sum, buckets } => {
                map.serialize_entry("count", &count(buckets))?;
                map.serialize_entry("sum", sum)?;
                map.serialize_entry("buckets", &Buckets(buckets))?;
            }
        }
        map.end()
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

struct Buckets<'a>(&'a [(f64, u64)]);

impl Serialize for Buckets<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|&(upper, count)| (bound(upper), count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_type_has_its_shape() {
        let mut labels = Labels::default();
        labels.push("engine", "0");
        for (value, expected) in [
            (Value::Counter(3), json!({"type": "counter", "value": 3})),
            (Value::Gauge(0.5), json!({"type": "gauge", "value": 0.5})),
            (Value::Vector(vec![2, 1]), json!({"type": "vector", "values": [2, 1]})),
            (
                Value::Histogram { sum: 1.5, buckets: vec![(1.0, 1), (f64::INFINITY, 2)] },
                json!({"type": "histogram", "count": 2, "sum": 1.5, "buckets": {"1.0": 1, "+Inf": 2}}),
            ),
        ] {
            let mut expected = expected;
            expected["name"] = json!("x");
            expected["labels"] = json!({"engine": "0"});
            let metric = Metric { name: "x", labels: labels.clone(), value };
            assert_eq!(serde_json::to_value(metric).unwrap(), expected);
        }
    }
}
