// Owns gradient boosting of trees on binned features for a binary label (log loss), and the evaluation of its trees.
// B1 Deterministic: no chance, sums in a fixed order; the same table gives the same trees.
// B2 Splits are values of FP32 seen in training, "<= goes left": every runtime that compares floats takes the same way.
// B3 Categories become one number, their smoothed share of positive labels; one never seen becomes the share overall.
// After J. Friedman, "Greedy function approximation" (2001), with second-order leaves and best-first growth on histograms.
import type { Column, Table } from "./table.ts";

export type Hyperparameters = {
  trees: number;
  /** Leaves a tree may have. */
  leaves: number;
  learning_rate: number;
  /** Rows a leaf must have. */
  min_rows: number;
  /** Ridge on leaf values. */
  l2: number;
  /** Bins per feature, at most 256. */
  bins: number;
  /** Rows by which a category is drawn towards the share overall. */
  category_smoothing: number;
};

/** Nodes as columns: `feature` is -1 at a leaf, whose `value` is added; else `value` is the split and the children follow. */
export type Tree = { feature: Int16Array; value: Float32Array; left: Int32Array; right: Int32Array };

export type Input =
  | { name: string; type: "number" }
  | { name: string; type: "category"; codes: ReadonlyMap<string, number>; unknown: number };

/** `base` plus the leaves reached is the log-odds of label 1. */
export type Forest = { inputs: readonly Input[]; base: number; trees: readonly Tree[] };

/** Fits a forest to the table, each row counting `weights[row]` times. */
export function boost(table: Table, weights: Float64Array, settings: Hyperparameters): Forest {
  const { rows, label } = table;
  let weightSum = 0;
  let positive = 0;
  for (let row = 0; row < rows; row++) {
    weightSum += weights[row] ?? 0;
    positive += (weights[row] ?? 0) * (label[row] ?? 0);
  }
  if (!(positive > 0 && positive < weightSum))
    throw new Error(`the labels of all ${rows} rows are the same: nothing to learn`);
  const share = positive / weightSum;
  const inputs = table.columns.map((column) => inputOf(column, label, share, settings.category_smoothing));
  const binned = binnedRows(encoded(table.columns, inputs), rows, settings.bins);
  const base = Math.fround(Math.log(share / (1 - share)));
  const grower = new Grower(binned, settings);
  const score = new Float64Array(rows).fill(base);
  const trees: Tree[] = [];
  for (let round = 0; round < settings.trees; round++) {
    for (let row = 0; row < rows; row++) {
      const weight = weights[row] ?? 0;
      const probability = sigmoid(score[row] ?? 0);
      grower.gradient[row] = weight * (probability - (label[row] ?? 0));
      grower.hessian[row] = weight * probability * (1 - probability);
    }
    const tree = grower.grow(score);
    if (tree === undefined) break;
    trees.push(tree);
  }
  return { inputs, base, trees };
}

/** Probability of label 1 for each row. */
export function predict(forest: Forest, columns: readonly Column[]): Float64Array {
  const values = encoded(columns, forest.inputs);
  const out = new Float64Array(values[0]?.length ?? 0);
  for (let row = 0; row < out.length; row++) {
    let score = forest.base;
    for (const tree of forest.trees) score += leafValue(tree, values, row);
    out[row] = sigmoid(score);
  }
  return out;
}

function leafValue({ feature, value, left, right }: Tree, values: readonly Float32Array[], row: number): number {
  let node = 0;
  for (;;) {
    const column = feature[node] ?? -1;
    if (column < 0) return value[node] ?? 0;
    node = ((values[column]?.[row] ?? 0) <= (value[node] ?? 0) ? left[node] : right[node]) ?? 0;
  }
}

const sigmoid = (score: number): number => 1 / (1 + Math.exp(-score));

function inputOf(column: Column, label: Uint8Array, share: number, smoothing: number): Input {
  const { name, type } = column;
  if (type === "number") return { name, type };
  const sums = new Map<string, { rows: number; positive: number }>();
  column.values.forEach((value, row) => {
    let sum = sums.get(value);
    if (sum === undefined) sums.set(value, (sum = { rows: 0, positive: 0 }));
    sum.rows++;
    sum.positive += label[row] ?? 0;
  });
  const codes = new Map<string, number>();
  for (const key of [...sums.keys()].sort()) {
    const { rows = 0, positive = 0 } = sums.get(key) ?? {};
    codes.set(key, Math.fround((positive + smoothing * share) / (rows + smoothing)));
  }
  return { name, type, codes, unknown: Math.fround(share) };
}

/** Every input as FP32, categories by their codes (B3). */
function encoded(columns: readonly Column[], inputs: readonly Input[]): Float32Array[] {
  return inputs.map((input, at) => {
    const column = columns[at];
    if (column?.name !== input.name || column.type !== input.type) {
      throw new Error(`expected column ${at} to be ${input.name} (${input.type}), found ${column?.name ?? "none"}`);
    }
    if (column.type === "number") return column.values;
    if (input.type === "number") throw new Error("unreachable");
    return Float32Array.from(column.values, (value) => input.codes.get(value) ?? input.unknown);
  });
}

/** Bins row by row (`cells[row * features + feature]`), and the largest value of each bin: the splits (B2). */
type Binned = { rows: number; features: number; bins: number; cells: Uint8Array; uppers: readonly Float32Array[] };

function binnedRows(values: readonly Float32Array[], rows: number, bins: number): Binned {
  const features = values.length;
  const cells = new Uint8Array(rows * features);
  const uppers = values.map((column) => quantiles(column, bins));
  values.forEach((column, feature) => {
    const edges = uppers[feature] ?? new Float32Array();
    for (let row = 0; row < rows; row++) {
      const value = column[row] ?? 0;
      let low = 0;
      let high = edges.length - 1;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (value <= (edges[middle] ?? 0)) high = middle;
        else low = middle + 1;
      }
      cells[row * features + feature] = low;
    }
  });
  return { rows, features, bins, cells, uppers };
}

/** Upper ends of at most `bins` bins of about equal size; the last is the maximum. */
function quantiles(column: Float32Array, bins: number): Float32Array {
  const sorted = column.toSorted();
  const edges: number[] = [];
  for (let bin = 1; bin <= bins; bin++) {
    const value = sorted[Math.ceil((bin * sorted.length) / bins) - 1] ?? 0;
    if (edges.length === 0 || value > (edges[edges.length - 1] ?? 0)) edges.push(value);
  }
  return Float32Array.from(edges);
}

/** What a leaf in the making knows: its rows are `order[start, end)`. */
type Leaf = { node: number; start: number; end: number; sums: Sums; histogram: Float64Array; split: Split | undefined };
type Sums = { gradient: number; hessian: number };
type Split = { gain: number; feature: number; bin: number; left: Sums };

class Grower {
  readonly gradient: Float64Array;
  readonly hessian: Float64Array;
  readonly #binned: Binned;
  readonly #settings: Hyperparameters;
  readonly #order: Uint32Array;
  readonly #scratch: Uint32Array;
  readonly #free: Float64Array[] = [];

  constructor(binned: Binned, settings: Hyperparameters) {
    this.#binned = binned;
    this.#settings = settings;
    this.gradient = new Float64Array(binned.rows);
    this.hessian = new Float64Array(binned.rows);
    this.#order = new Uint32Array(binned.rows);
    this.#scratch = new Uint32Array(binned.rows);
  }

  /** Grows one tree best-first and adds its leaves to `score`; undefined when no split helps. */
  grow(score: Float64Array): Tree | undefined {
    const { rows, uppers } = this.#binned;
    for (let row = 0; row < rows; row++) this.#order[row] = row;
    const nodes = new Nodes(2 * this.#settings.leaves - 1);
    const histogram = this.#fill(0, rows);
    const root: Leaf = {
      node: nodes.add(),
      start: 0,
      end: rows,
      sums: total(histogram, this.#binned.bins),
      histogram,
      split: undefined,
    };
    root.split = this.#best(root);
    const leaves = [root];
    while (leaves.length < this.#settings.leaves) {
      let chosen = -1;
      leaves.forEach(({ split }, at) => {
        if (split !== undefined && split.gain > (leaves[chosen]?.split?.gain ?? 0)) chosen = at;
      });
      const leaf = leaves[chosen];
      if (leaf?.split === undefined) break;
      const [left, right] = this.#divided(leaf, leaf.split, nodes);
      nodes.branch(leaf.node, {
        feature: leaf.split.feature,
        value: uppers[leaf.split.feature]?.[leaf.split.bin] ?? 0,
        left: left.node,
        right: right.node,
      });
      leaves.splice(chosen, 1, left, right);
    }
    for (const { node, start, end, sums, histogram: used } of leaves) {
      const value = Math.fround((-this.#settings.learning_rate * sums.gradient) / (sums.hessian + this.#settings.l2));
      nodes.leaf(node, value);
      for (let at = start; at < end; at++) add(score, this.#order[at] ?? 0, value);
      this.#free.push(used);
    }
    return leaves.length === 1 ? undefined : nodes.tree();
  }

  /** Parts the leaf's rows in place, keeping their order; the larger side's histogram is what the smaller leaves over. */
  #divided(leaf: Leaf, { feature, bin, left: leftSums }: Split, nodes: Nodes): [Leaf, Leaf] {
    const { cells, features } = this.#binned;
    const order = this.#order;
    let middle = leaf.start;
    let spare = 0;
    for (let at = leaf.start; at < leaf.end; at++) {
      const row = order[at] ?? 0;
      if ((cells[row * features + feature] ?? 0) <= bin) order[middle++] = row;
      else this.#scratch[spare++] = row;
    }
    order.set(this.#scratch.subarray(0, spare), middle);
    const leftIsSmaller = middle - leaf.start <= leaf.end - middle;
    const smaller = leftIsSmaller ? this.#fill(leaf.start, middle) : this.#fill(middle, leaf.end);
    const larger = leaf.histogram;
    for (let at = 0; at < larger.length; at++) add(larger, at, -(smaller[at] ?? 0));
    const left: Leaf = {
      node: nodes.add(),
      start: leaf.start,
      end: middle,
      sums: leftSums,
      histogram: leftIsSmaller ? smaller : larger,
      split: undefined,
    };
    const right: Leaf = {
      node: nodes.add(),
      start: middle,
      end: leaf.end,
      sums: { gradient: leaf.sums.gradient - leftSums.gradient, hessian: leaf.sums.hessian - leftSums.hessian },
      histogram: leftIsSmaller ? larger : smaller,
      split: undefined,
    };
    left.split = this.#best(left);
    right.split = this.#best(right);
    return [left, right];
  }

  /** Gradient, hessian and rows of each bin of each feature over `order[start, end)`. The hot loop of training. */
  #fill(start: number, end: number): Float64Array {
    const { cells, features, bins } = this.#binned;
    const { gradient, hessian } = this;
    const order = this.#order;
    const histogram = this.#free.pop()?.fill(0) ?? new Float64Array(features * bins * 3);
    const stride = bins * 3;
    for (let at = start; at < end; at++) {
      const row = order[at] ?? 0;
      const g = gradient[row] ?? 0;
      const h = hessian[row] ?? 0;
      const first = row * features;
      for (let feature = 0, begin = 0; feature < features; feature++, begin += stride) {
        const cell = begin + (cells[first + feature] ?? 0) * 3;
        add(histogram, cell, g);
        add(histogram, cell + 1, h);
        add(histogram, cell + 2, 1);
      }
    }
    return histogram;
  }

  #best({ start, end, sums, histogram }: Leaf): Split | undefined {
    const { bins, uppers } = this.#binned;
    const { min_rows: minRows, l2 } = this.#settings;
    if (end - start < 2 * minRows) return undefined;
    const whole = (sums.gradient * sums.gradient) / (sums.hessian + l2);
    let best: Split | undefined;
    uppers.forEach((edges, feature) => {
      let gradient = 0;
      let hessian = 0;
      let rows = 0;
      for (let bin = 0; bin < edges.length - 1; bin++) {
        const cell = (feature * bins + bin) * 3;
        gradient += histogram[cell] ?? 0;
        hessian += histogram[cell + 1] ?? 0;
        rows += histogram[cell + 2] ?? 0;
        if (rows < minRows || (histogram[cell + 2] ?? 0) === 0) continue;
        if (end - start - rows < minRows) break;
        const rest = sums.gradient - gradient;
        const gain = (gradient * gradient) / (hessian + l2) + (rest * rest) / (sums.hessian - hessian + l2) - whole;
        if (gain > (best?.gain ?? 1e-9)) best = { gain, feature, bin, left: { gradient, hessian } };
      }
    });
    return best;
  }
}

const add = (sums: Float64Array, at: number, value: number): void => {
  sums[at] = (sums[at] ?? 0) + value;
};

/** The sums of any one feature's bins are those of the leaf. */
function total(histogram: Float64Array, bins: number): Sums {
  const sums = { gradient: 0, hessian: 0 };
  for (let cell = 0; cell < bins * 3; cell += 3) {
    sums.gradient += histogram[cell] ?? 0;
    sums.hessian += histogram[cell + 1] ?? 0;
  }
  return sums;
}

class Nodes {
  readonly #feature: Int16Array;
  readonly #value: Float32Array;
  readonly #left: Int32Array;
  readonly #right: Int32Array;
  #used = 0;

  constructor(capacity: number) {
    this.#feature = new Int16Array(capacity).fill(-1);
    this.#value = new Float32Array(capacity);
    this.#left = new Int32Array(capacity);
    this.#right = new Int32Array(capacity);
  }

  add(): number {
    return this.#used++;
  }

  branch(
    node: number,
    { feature, value, left, right }: { feature: number; value: number; left: number; right: number },
  ): void {
    this.#feature[node] = feature;
    this.#value[node] = value;
    this.#left[node] = left;
    this.#right[node] = right;
  }

  leaf(node: number, value: number): void {
    this.#value[node] = value;
  }

  tree(): Tree {
    const end = this.#used;
    return {
      feature: this.#feature.slice(0, end),
      value: this.#value.slice(0, end),
      left: this.#left.slice(0, end),
      right: this.#right.slice(0, end),
    };
  }
}
