// The model machine: a guest without an operating system, whose every step is somebody else's choice.
import { assert } from "../../base/assert.ts";
import { BufferMemory } from "../../memory/guest-memory.ts";
import { DriverTrouble } from "../../nic/guest-driver.ts";
import type { MessageSink, PciFunction } from "../../pci/function.ts";
import type { Machine } from "../machine.ts";
import { Application } from "./application.ts";
import { CpuMemory, ModelDirtyLog } from "./cpu-memory.ts";
import type { DmaMapping } from "./dma-mapping.ts";
import { GuestDriver } from "./driver.ts";
import { layOut, type Layout, type ModelOptions } from "./layout.ts";
import { PageAllocator } from "./page-allocator.ts";
import { GuestPanic } from "./panic.ts";
import { MESSAGE_ADDRESS, plugIn } from "./plug-in.ts";
import { decodeState, encodeState, initialState, type Counters, type ModelState } from "./state.ts";

/**
 * What runs in the guest at the same time: the driver (interrupts, polls, service task) and the application. Each is a
 * chain of steps, and `step` is the only thing that makes one go on; who calls it decides every interleaving.
 */
export const modelThreads = ["driver", "application"] as const;
export type ModelThread = (typeof modelThreads)[number];

/**
 * No clock, no randomness, no event loop: what the guest does is a function of its state, its RAM and the device's
 * registers. All of the state but RAM is one plain value.
 */
export class ModelMachine implements Machine {
  readonly kind = "model";
  readonly memory: BufferMemory;
  readonly cpuDirtyLog: ModelDirtyLog;
  readonly interrupts: MessageSink;
  readonly layout: Layout;
  readonly #driver: GuestDriver;
  readonly #application: Application;
  #function: PciFunction | undefined;
  #state: ModelState;
  #isPaused = true;
  #isClosed = false;

  /** Paused, as any machine is made. */
  constructor(
    options: ModelOptions & {
      readonly memoryBytes: number;
      readonly pageBytes?: number;
      readonly buffer?: ArrayBufferLike;
      /** Given if the machine has an IOMMU. */
      readonly mapping?: DmaMapping;
    },
  ) {
    const { memoryBytes, pageBytes = 4096, buffer, mapping, ...rest } = options;
    this.memory = new BufferMemory(memoryBytes, { pageBytes, ...(buffer === undefined ? {} : { buffer }) });
    const { pages } = this.memory;
    this.layout = layOut(pages, rest);
    this.#state = initialState(this.layout);
    this.cpuDirtyLog = new ModelDirtyLog(pages.count, pages.shift);
    this.interrupts = {
      deliver: (low, _high, vector) => {
        if (low === MESSAGE_ADDRESS && vector < 32) this.#state.pendingVectors |= 1 << vector;
      },
    };
    const state = (): ModelState => this.#state;
    const parts = {
      state,
      layout: this.layout,
      memory: new CpuMemory(this.memory, this.cpuDirtyLog),
      pages: new PageAllocator(state, this.layout),
      mapping,
      registers: {
        read: (offset: number) => this.#plugged().readBar(0, offset, 4),
        write: (offset: number, value: number) => this.#plugged().writeBar(0, offset, 4, value >>> 0),
      },
    };
    this.#driver = new GuestDriver(parts);
    this.#application = new Application({ ...parts, driver: this.#driver });
  }

  #plugged(): PciFunction {
    assert(this.#function !== undefined, "a function is attached before the guest runs");
    return this.#function;
  }

  attach(pciFunction: PciFunction): void {
    assert(this.#function === undefined, "the slot is taken");
    this.#function = pciFunction;
    plugIn(pciFunction);
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  pause(): Promise<void> {
    this.#isPaused = true;
    return Promise.resolve();
  }

  resume(): Promise<void> {
    assert(!this.#isClosed, "a closed machine cannot run");
    this.#isPaused = false;
    return Promise.resolve();
  }

  /** One step of a thread. False when it has nothing to do, or the guest is dead. */
  step(thread: ModelThread): boolean {
    if (!this.#canRun()) return false;
    try {
      return thread === "driver" ? this.#driver.step() : this.#application.step();
    } catch (thrown) {
      return this.#die(thrown);
    }
  }

  /** Reads one frame from the socket, as the application would when its turn came. False when there is none. */
  readSocket(): boolean {
    if (!this.#canRun()) return false;
    try {
      return this.#application.read();
    } catch (thrown) {
      return this.#die(thrown);
    }
  }

  #canRun(): boolean {
    assert(!this.#isPaused, "a paused guest does not step");
    return this.#state.panic === null;
  }

  #die(thrown: unknown): false {
    if (!(thrown instanceof GuestPanic || thrown instanceof DriverTrouble)) throw thrown;
    this.#state.panic = thrown.message;
    return false;
  }

  /** The driver is asked to take the interface down and up again, with rings elsewhere in memory. */
  requestReopen(): void {
    this.#state.driver.isReopenDue = true;
  }

  /** The driver waits for an interrupt, and none is pending. */
  get isIdle(): boolean {
    return this.#state.panic !== null || this.#driver.isIdle;
  }

  /** The application is in the middle of sending a frame. */
  get isSending(): boolean {
    return this.#state.application.program.at !== "next";
  }

  /** Why the guest died. */
  get panic(): string | undefined {
    return this.#state.panic ?? undefined;
  }

  get counters(): Readonly<Counters> {
    return this.#state.counters;
  }

  /** Frames read from the rings and not yet by the application. */
  get socketFrames(): number {
    return this.#state.socket.length;
  }

  /** First receive descriptor that the driver has not taken, by queue. */
  get nextToClean(): number[] {
    return this.#state.driver.receive.map((queue) => queue.nextToClean);
  }

  /** By queue: the driver has seen that descriptor done, and will dirty its buffer, and has not yet. */
  get isBetweenCheckAndWrite(): boolean[] {
    return this.#state.driver.receive.map((_, queue) => this.#driver.isBetweenCheckAndWrite(queue));
  }

  saveState(): Uint8Array {
    assert(this.#isPaused, "a machine's state is taken while it is paused");
    return encodeState(this.#state);
  }

  restoreState(state: Uint8Array): void {
    assert(this.#isPaused, "a machine's state is loaded while it is paused");
    this.#state = decodeState(state, this.layout);
    this.#driver.receive.mapping.restored();
  }

  close(): Promise<void> {
    this.#isClosed = true;
    return this.pause();
  }
}
