// Package metrics tests what Prometheus and health checks see: the end points, the table of
// the metrics against a scrape, counters that survive a worker, and pgagroal-console's death.
package metrics
