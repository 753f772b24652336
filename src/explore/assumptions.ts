// What is assumed of the machine beneath, and how far the search goes: switches, each with a default and a sentence.
import { OperationError } from "../base/errors.ts";

export interface Assumptions {
  /** Bytes of a page that a copy reads at once; from the size of a page on, pages are read whole. */
  readonly atomicBytes: number;
  /** Descriptors the device reads ahead with one read; 0 reads each when its buffer is due. */
  readonly prefetch: number;
  /** Device writes that may be on their way at once; 0: each lands as it is made. */
  readonly inFlight: number;
  /** Whoever stops or saves the device waits until what is in flight has landed. */
  readonly drain: boolean;
  /** Write-backs of descriptors have the relaxed-ordering bit: they may overtake the buffers before them. */
  readonly relaxedDescriptors: boolean;
  /** A page holds two buffers, which take turns. */
  readonly sharedPages: boolean;
  /** Pages that a receive ring takes. */
  readonly ringPages: number;
  readonly queues: number;
  /** What the driver does with an IOMMU: nothing is behind one, unmaps at once, or unmaps late and in batches. */
  readonly iommu: "none" | "strict" | "lazy";
}

export interface Bounds {
  /** Frames that wait in the device. The second of them takes two descriptors. */
  readonly frames: number;
  /** How far around the ring its head is when the search begins, in eighths. */
  readonly head: number;
  /** Rounds of pre-copy whose page copies race with guest and device, after the first, which does not. */
  readonly rounds: number;
  /** Steps the guest's application does beside reading frames: it writes memory and sends. */
  readonly application: number;
  /** The search ends here and says so. */
  readonly states: number;
}

interface Switch<Value> {
  readonly default: Value;
  readonly values: readonly Value[];
  readonly sentence: string;
}

export const assumptionSwitches: { readonly [Name in keyof Assumptions]: Switch<Assumptions[Name]> } = {
  atomicBytes: {
    default: 16,
    values: [8, 16, 64, 128],
    sentence: "bytes of a page that a copy reads at once; a toy page has 64, or 128 in rings of 1 or 3 pages",
  },
  prefetch: { default: 0, values: [0, 2, 4, 8], sentence: "descriptors the device reads ahead" },
  inFlight: { default: 0, values: [0, 1, 2, 3, 4], sentence: "device writes that may be on their way at once" },
  drain: {
    default: true,
    values: [true, false],
    sentence: "whoever stops or saves the device waits for what is in flight (a read pushes it out)",
  },
  relaxedDescriptors: {
    default: false,
    values: [false, true],
    sentence: "write-backs may overtake the buffers before them (DCA_RXCTRL_DESC_WRO_EN; ixgbevf leaves it off)",
  },
  sharedPages: { default: false, values: [false, true], sentence: "a page holds two buffers" },
  ringPages: { default: 2, values: [1, 2, 3], sentence: "pages that a receive ring takes" },
  queues: { default: 1, values: [1, 2], sentence: "queue pairs" },
  iommu: {
    default: "none",
    values: ["none", "strict", "lazy"],
    sentence: "the driver maps and unmaps buffers in an emulated IOMMU, at once or late",
  },
};

export const boundSwitches: {
  readonly [Name in keyof Bounds]: { readonly default: number; readonly max: number; readonly sentence: string };
} = {
  frames: { default: 4, max: 8, sentence: "frames that wait in the device; the second takes two descriptors" },
  head: { default: 4, max: 7, sentence: "how far around the ring its head is at the start, in eighths" },
  rounds: { default: 1, max: 3, sentence: "rounds of pre-copy that race with guest and device" },
  application: {
    default: 0,
    max: 40,
    sentence: "steps the application does beside reading: it writes memory and sends",
  },
  states: { default: 60_000_000, max: 1_000_000_000, sentence: "states after which the search gives up" },
};

export const defaultAssumptions = defaultsOf<Assumptions>(assumptionSwitches);
export const defaultBounds = defaultsOf<Bounds>(boundSwitches);

function defaultsOf<Values>(switches: { readonly [Name in keyof Values]: { readonly default: Values[Name] } }): Values {
  const entries = Object.entries<{ readonly default: unknown }>(switches).map(([name, { default: value }]) => [
    name,
    value,
  ]);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- one default for each name
  return Object.fromEntries(entries) as Values;
}

/** Reads NAME=VALUE. Throws OperationError `assumption-unknown` or `bound-unknown` with the names and values there are. */
export function withAssumption(assumptions: Assumptions, setting: string): Assumptions {
  const [name = "", text = ""] = setting.split("=");
  const found = Object.entries(assumptionSwitches).find(([known]) => known === name);
  const value = found?.[1].values.find((candidate) => String(candidate) === text);
  if (found !== undefined && value !== undefined) return { ...assumptions, [name]: value };
  const known = Object.entries(assumptionSwitches).map(([other, { values }]) => `${other}=${values.join("|")}`);
  throw new OperationError({
    code: "assumption-unknown",
    message: `There is no assumption "${setting}".`,
    advice: `Use one of: ${known.join(", ")}.`,
    facts: { setting },
  });
}

export function withBound(bounds: Bounds, setting: string): Bounds {
  const [name = "", text = ""] = setting.split("=");
  const found = Object.entries(boundSwitches).find(([known]) => known === name);
  const value = Number(text);
  if (found !== undefined && /^\d+$/.test(text) && value <= found[1].max) return { ...bounds, [name]: value };
  const known = Object.entries(boundSwitches).map(([other, { max }]) => `${other}=0..${max}`);
  throw new OperationError({
    code: "bound-unknown",
    message: `There is no bound "${setting}".`,
    advice: `Use one of: ${known.join(", ")}.`,
    facts: { setting },
  });
}
