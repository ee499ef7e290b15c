// Package dashboard tests the dashboards of the adapters, and holds nothing else: what Grafana would ask is
// answered by the engine of Prometheus, which the modules of the adapters do without.
package dashboard
