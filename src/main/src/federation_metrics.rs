//! What Prometheus is told of federation: read when it asks.

use std::fmt;
use std::sync::Arc;

use node::Node;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The counts and queues of federation.
pub struct FederationMetrics(pub Arc<Node>);

impl fmt::Debug for FederationMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("FederationMetrics")
    }
}

impl Collector for FederationMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let now = self.0.federation_traffic();
        let counters = [
            (
                "transactions_sent",
                "Transactions that other servers took",
                now.transactions_sent,
            ),
            (
                "transactions_failed",
                "Tries to send a transaction that failed",
                now.transactions_failed,
            ),
            (
                "events_sent",
                "Events that other servers took, once for each",
                now.events_sent,
            ),
            (
                "edus_sent",
                "Ephemeral data units that other servers took",
                now.edus_sent,
            ),
            (
                "transactions_received",
                "Transactions of other servers",
                now.transactions_received,
            ),
            (
                "events_received",
                "Events in transactions of other servers",
                now.events_received,
            ),
            (
                "events_refused",
                "Those that were answered with an error",
                now.events_refused,
            ),
            (
                "edus_received",
                "Ephemeral data units in transactions of other servers",
                now.edus_received,
            ),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            let name = format!("meyrin_federation_{name}");
            let metric = encoder.encode_descriptor(&name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        let gauges = [
            (
                "servers_waiting",
                "Servers that something waits for, or is sent to",
                now.servers_waiting,
            ),
            (
                "servers_failing",
                "Servers that can't be sent to",
                now.servers_failing,
            ),
            (
                "longest_failing_seconds",
                "For how long the server that fails longest fails",
                now.longest_failing_ms / 1_000,
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let name = format!("meyrin_federation_{name}");
            let metric = encoder.encode_descriptor(&name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}
