// Counters, gauges and histograms in Prometheus' text form. M1 Names begin with `driftmesh_`. M2 Label values are bounded by the caller.
// M3 Asking twice for one name gives the same metric.
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";

export type Labels = Record<string, string>;

/** The metrics of one process. */
export type Metrics = {
  counter(name: string, help: string, labels?: string[]): { inc(labels?: Labels, by?: number): void };
  gauge(name: string, help: string, labels?: string[]): { set(labels: Labels, value: number): void };
  histogram(
    name: string,
    help: string,
    buckets: number[],
    labels?: string[],
  ): { observe(labels: Labels, value: number): void };
  /** Prometheus' text exposition. */
  text(): Promise<string>;
};

/** Metrics of `service`, with those of the process itself (event-loop delay, memory, collections) when `standard` is true. */
export function createMetrics(service: string, options: { standard?: boolean } = {}): Metrics {
  const register = new Registry();
  register.setDefaultLabels({ service });
  if (options.standard === true) collectDefaultMetrics({ register, prefix: "driftmesh_" });
  const known = new Map<string, unknown>();
  function once<T>(name: string, make: () => T): T {
    if (!name.startsWith("driftmesh_")) throw new Error(`metric ${name} does not begin with driftmesh_`);
    const metric = (known.get(name) as T | undefined) ?? make();
    known.set(name, metric);
    return metric;
  }
  return {
    counter(name, help, labelNames = []) {
      const counter = once(name, () => new Counter({ name, help, labelNames, registers: [register] }));
      return { inc: (labels = {}, by = 1) => counter.inc(labels, by) };
    },
    gauge(name, help, labelNames = []) {
      const gauge = once(name, () => new Gauge({ name, help, labelNames, registers: [register] }));
      return { set: (labels, value) => gauge.set(labels, value) };
    },
    histogram(name, help, buckets, labelNames = []) {
      const histogram = once(name, () => new Histogram({ name, help, buckets, labelNames, registers: [register] }));
      return { observe: (labels, value) => histogram.observe(labels, value) };
    },
    text: () => register.metrics(),
  };
}
