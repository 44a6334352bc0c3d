//! A snapshot as Prometheus text, version 0.0.4, as vLLM's `/metrics` writes it: counters get `_total`, a vector is a
//! counter with a sample for each `position`, and there are no `_created` samples.

use super::catalog;
use super::snapshot::{Labels, Snapshot, Value, bound, count};
use std::fmt::{self, Display, Write};

impl Snapshot {
    /// The Prometheus text exposition.
    pub fn to_prometheus(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = write_all(self, &mut out);
        out
    }
}

fn write_all(snapshot: &Snapshot, out: &mut String) -> fmt::Result {
    let mut family = "";
    for metric in snapshot.iter() {
        let name = metric.name;
        let (kind, total) = match metric.value {
            Value::Counter(_) | Value::Vector(_) => ("counter", "_total"),
            Value::Gauge(_) => ("gauge", ""),
            Value::Histogram { .. } => ("histogram", ""),
        };
        if name != family {
            family = name;
            writeln!(out, "# HELP {name}{total} {}", Escaped(catalog::help(name).unwrap_or_default(), false))?;
            writeln!(out, "# TYPE {name}{total} {kind}")?;
        }
        let labels = |extra| Braced(&metric.labels, extra);
        match &metric.value {
            Value::Counter(value) => writeln!(out, "{name}_total{} {:?}", labels(None), *value as f64)?,
            Value::Gauge(value) => writeln!(out, "{name}{} {}", labels(None), Number(*value))?,
            Value::Vector(values) => {
                for (position, value) in values.iter().enumerate() {
                    let labels = labels(Some(("position", position.to_string())));
                    writeln!(out, "{name}_total{labels} {:?}", *value as f64)?;
                }
            }
            Value::Histogram { sum, buckets } => {
                for &(upper, value) in buckets {
                    writeln!(out, "{name}_bucket{} {:?}", labels(Some(("le", bound(upper)))), value as f64)?;
                }
                writeln!(out, "{name}_count{} {:?}", labels(None), count(buckets) as f64)?;
                writeln!(out, "{name}_sum{} {}", labels(None), Number(*sum))?;
            }
        }
    }
    Ok(())
}

/// Labels in braces, with one more.
struct Braced<'a>(&'a Labels, Option<(&'static str, String)>);

impl Display for Braced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let extra = self.1.as_ref().map(|(key, value)| (*key, value.as_str()));
        for (i, (key, value)) in self.0.iter().chain(extra).enumerate() {
            write!(f, "{}{key}=\"{}\"", if i == 0 { '{' } else { ',' }, Escaped(value, true))?;
        }
        f.write_str("}")
    }
}

/// Text with backslashes and line ends escaped, and quotes where it stands between them.
struct Escaped<'a>(&'a str, bool);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '"' if self.1 => f.write_str("\\\"")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A number in Prometheus' spelling.
struct Number(f64);

impl Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            number => write!(f, "{number:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FinishedRequest, Gauge, IterationStats, Registry};

    fn text() -> String {
        let mut registry = Registry::new("a \"b\\c\"\nd", 20);
        registry.configure_speculation(2);
        registry.on_draft(2, 1);
        registry.on_iteration(&IterationStats { prompt_tokens: 7, generation_tokens: 1, ..Default::default() });
        registry.on_request_finished(&FinishedRequest { prompt_tokens: 7, ..Default::default() });
        registry.set(Gauge::KvCacheUsage, 0.25);
        registry.snapshot().to_prometheus()
    }

    #[test]
    fn samples_are_spelt_as_prometheus_reads_them() {
        let text = text();
        let model = r#"model_name="a \"b\\c\"\nd",engine="0""#;
        for line in [
            "# TYPE vllm:spec_decode_num_drafts_total counter".to_owned(),
            format!("vllm:spec_decode_num_drafts_total{{{model}}} 1.0"),
            "# TYPE vllm:spec_decode_num_accepted_tokens_per_pos_total counter".to_owned(),
            format!("vllm:spec_decode_num_accepted_tokens_per_pos_total{{{model},position=\"0\"}} 1.0"),
            format!("vllm:spec_decode_num_accepted_tokens_per_pos_total{{{model},position=\"1\"}} 0.0"),
            "# TYPE vllm:kv_cache_usage_perc gauge".to_owned(),
            format!("vllm:kv_cache_usage_perc{{{model}}} 0.25"),
            "# TYPE vllm:request_prompt_tokens histogram".to_owned(),
            format!("vllm:request_prompt_tokens_bucket{{{model},le=\"5.0\"}} 0.0"),
            format!("vllm:request_prompt_tokens_bucket{{{model},le=\"10.0\"}} 1.0"),
            format!("vllm:request_prompt_tokens_bucket{{{model},le=\"+Inf\"}} 1.0"),
            format!("vllm:request_prompt_tokens_count{{{model}}} 1.0"),
            format!("vllm:request_prompt_tokens_sum{{{model}}} 7.0"),
        ] {
            assert!(text.lines().any(|l| l == line), "no line {line:?} in\n{text}");
        }
        assert!(!text.contains("_created"));
    }

    #[test]
    fn each_family_is_declared_once() {
        let text = text();
        let mut types: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let declared = types.len();
        types.sort();
        types.dedup();
        assert_eq!(types.len(), declared);
    }
}
