// How much memory one input of a fuzz takes, and how much of all of them is never given back.
import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

// Works in a worker as well, and needs no option on the command line.
setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as (options?: { type: "minor" }) => void;

/** Memory of this thread, garbage included. */
export interface Memory {
  /** Array buffers. */
  readonly bufferBytes: number;
  /** All other objects, and code that was compiled. */
  readonly heapBytes: number;
}

function used(): Memory {
  const { used_heap_size: heapBytes, external_memory: bufferBytes } = getHeapStatistics();
  return { bufferBytes, heapBytes };
}

/** What is left after everything that nobody holds was given back. */
export function liveBytes(): number {
  collect();
  // Buffers are given back beside the program after one collection, and at the latest when the next begins.
  collect();
  const { bufferBytes, heapBytes } = used();
  return bufferBytes + heapBytes;
}

/**
 * Measures one input. What it has taken counts until the collector has it back, so that also a buffer counts that is
 * dropped at once, if it lives to the end of a step. Garbage of earlier inputs that is collected meanwhile would hide
 * something; the young part of it, which is nearly all, is collected before.
 */
export class MemoryWatch {
  readonly #start: Memory;

  constructor() {
    collect({ type: "minor" });
    this.#start = used();
  }

  /** What was taken since the beginning. */
  get taken(): Memory {
    const { bufferBytes, heapBytes } = used();
    return { bufferBytes: bufferBytes - this.#start.bufferBytes, heapBytes: heapBytes - this.#start.heapBytes };
  }
}
