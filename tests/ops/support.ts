/** Runs ops on small buffers with everything around them watched. */
import assert from "node:assert/strict";
import type { Gpu } from "../../engine/gpu/context.ts";
import type { Slot } from "../../engine/gpu/pool.ts";
import { type KernelTarget, Recorder, type Recording } from "../../engine/gpu/recorder.ts";
import { sharedGpu } from "../gpu_device.ts";

/** Both kernel families, whatever the adapter is. */
export const TARGETS: readonly (KernelTarget & { label: string })[] = [
  { isSoftware: true, label: "software" },
  { isSoftware: false, label: "hardware" },
];

/** The same, and where the adapter has subgroups the software family that uses them. */
export const SUBGROUP_TARGETS: typeof TARGETS = [
  ...TARGETS,
  ...((await sharedGpu()).hasSubgroups
    ? [{ isSoftware: true, hasSubgroups: true, label: "software, subgroups" }]
    : []),
];

/** Half a unit in the last place of f32, relative: the error of one rounding. */
export const U = 2 ** -24;

/** What outputs hold before a run: a NaN. */
const UNWRITTEN = 0x7fc00000;
/** What lies behind every array; another NaN, so that reading it shows, and writing it does. */
const GUARD = 0x7fc5a5a5;
const GUARD_WORDS = 64;

type HostArray = Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>;

interface Tracked {
  initial: Uint32Array<ArrayBuffer>;
  isInput: boolean;
  found?: Uint32Array<ArrayBuffer>;
}

/**
 * One recording under test. Inputs and outputs are followed by a guard that must stay as it is, inputs must not
 * change, outputs and scratch buffers start as NaN, and every run is made twice and must give the same bits.
 */
export class OpTest<S = void> {
  readonly recorder: Recorder<S>;
  readonly #tracked = new Map<Slot, Tracked>();
  #recording: Recording<S> | undefined;

  constructor(readonly gpu: Gpu, target: KernelTarget) {
    this.recorder = new Recorder<S>(target);
  }

  /** A slot that kernels only read. */
  input(label: string, data: HostArray): Slot {
    return this.#add(label, data, true);
  }

  /** A slot that starts with `data` and may be written. */
  inout(label: string, data: HostArray): Slot {
    return this.#add(label, data, false);
  }

  /** A slot of `elements` words, all NaN. */
  output(label: string, elements: number): Slot {
    return this.#add(label, new Uint32Array(elements).fill(UNWRITTEN), false);
  }

  #add(label: string, data: HostArray, isInput: boolean): Slot {
    const initial = new Uint32Array(
      data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength),
    );
    const slot = this.recorder.pool.acquire((initial.length + GUARD_WORDS) * 4, label);
    this.#tracked.set(slot, { initial, isInput });
    return slot;
  }

  /** Runs twice from the same state and checks guards, inputs and bits. */
  async run(sizes: S): Promise<void> {
    this.#recording ??= this.recorder.finish(this.gpu);
    const first = await this.#runOnce(sizes);
    const second = await this.#runOnce(sizes);
    let i = 0;
    for (const [slot, tracked] of this.#tracked) {
      const { initial, isInput } = tracked;
      const [words, again] = [first[i], second[i]];
      i++;
      const length = initial.length;
      for (let at = 0; at < length; at++) {
        if (words[at] !== again[at]) assert.fail(`${slot.label}[${at}]: two runs differ in their bits`);
        if (isInput && words[at] !== initial[at]) {
          assert.fail(`${slot.label}[${at}]: an input was overwritten`);
        }
      }
      for (let at = length; at < words.length; at++) {
        if (words[at] !== GUARD) {
          assert.fail(`${slot.label}: wrote ${at - length} words behind its ${length}`);
        }
      }
      tracked.found = words.slice(0, length);
    }
  }

  async #runOnce(sizes: S): Promise<Uint32Array<ArrayBuffer>[]> {
    for (const slot of this.recorder.pool.slots) {
      const words = new Uint32Array(slot.buffer.size / 4).fill(UNWRITTEN);
      const tracked = this.#tracked.get(slot);
      if (tracked) {
        words.set(tracked.initial);
        words.fill(GUARD, tracked.initial.length);
      }
      this.gpu.write(slot.buffer, words);
    }
    const reads = [...this.#tracked.keys()].map((slot) => ({ slot, bytes: slot.buffer.size }));
    return (await this.#recording!.run(sizes, reads)).map(({ buffer }) => new Uint32Array(buffer));
  }

  /** What a slot holds after {@link OpTest.run}. */
  floats(slot: Slot): Float32Array<ArrayBuffer> {
    return new Float32Array(this.words(slot).buffer);
  }

  /** The bits of {@link OpTest.floats}. */
  words(slot: Slot): Uint32Array<ArrayBuffer> {
    return this.#tracked.get(slot)!.found!;
  }

  [Symbol.dispose](): void {
    this.#recording?.dispose();
  }
}

/**
 * Asserts |found − expected| ≤ tolerance (one number, or one an element), and NaN exactly where `expected` is NaN.
 * Returns the largest share of the tolerance that was used.
 */
export function assertWithin(
  name: string,
  found: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number | ArrayLike<number>,
): number {
  assert.equal(found.length, expected.length, `${name}: length`);
  let used = 0;
  for (let i = 0; i < found.length; i++) {
    const allowed = typeof tolerance === "number" ? tolerance : tolerance[i];
    if (Number.isNaN(expected[i]) && Number.isNaN(found[i])) continue;
    const difference = found[i] === expected[i] ? 0 : Math.abs(found[i] - expected[i]);
    if (!(difference <= allowed)) {
      assert.fail(`${name}[${i}]: expected ${expected[i]} ± ${allowed}, found ${found[i]}`);
    }
    if (difference > 0) used = Math.max(used, difference / allowed);
  }
  if (Deno.env.get("WHORL_TEST_MARGINS")) {
    console.log(`${name}: ${(100 * used).toFixed(1)} % of the tolerance`);
  }
  return used;
}

/** Asserts that at least one element is NaN: a seeded NaN must have come out. */
export function assertSomeNaN(name: string, found: ArrayLike<number>): void {
  for (let i = 0; i < found.length; i++) if (Number.isNaN(found[i])) return;
  assert.fail(`${name}: the seeded NaN did not come out`);
}
