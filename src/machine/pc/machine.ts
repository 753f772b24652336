// The embedded PC: a Machine made of npm v86, with a slot for one PCI function and a serial console.
import xxhash from "xxhash-wasm";
import { assert } from "../../base/assert.ts";
import type { Clock } from "../../base/clock.ts";
import type { CpuDirtyLog } from "../../memory/dirty-log.ts";
import type { PciFunction } from "../../pci/function.ts";
import type { Machine } from "../machine.ts";
import { MachineClock } from "./clock.ts";
import { SerialConsole } from "./console.ts";
import { ShadowCompareDirtyLog, WasmCpuDirtyLog } from "./cpu-dirty-log.ts";
import { createEmulator, type EmulatorOptions, type PcEmulator } from "./emulator.ts";
import { PcInterrupts } from "./interrupts.ts";
import { restoreMachineState, saveMachineState, type Hash32, type StateContext } from "./machine-state.ts";
import { PcMemory } from "./memory.ts";
import { PciSlot } from "./pci-slot.ts";
import { clearEmptyBars, drawNothing, mendHotPlug, protectBiosShadow } from "./platform.ts";
import { putTimersOnClock } from "./timers.ts";
import type { V86Core, V86Cpu, V86Emulator } from "./v86-internals.ts";

const mebibyte = 1 << 20;
const pcMemoryBytes = { min: 64 * mebibyte, max: 1024 * mebibyte, multipleOf: mebibyte } as const;

export interface PcMachineOptions {
  /** Multiple of 1 MiB, from 64 MiB to 1 GiB. */
  readonly memoryBytes: number;
  readonly bios: Uint8Array;
  readonly vgaBios?: Uint8Array | undefined;
  /** What to boot; left out on a destination, whose RAM comes from elsewhere. */
  readonly boot?: EmulatorOptions["boot"];
  /** Default: performance.now(). */
  readonly hostClock?: Clock;
  /** Milliseconds since 1970, for the guest's real-time clock. Default: Date.now(). */
  readonly wallClock?: Clock;
  /** What the guest's RDRAND gives. Default: the host's cryptographic random numbers. */
  readonly randomU32?: () => number;
  /**
   * The emulator failed while the guest ran (a bug in it, in a device, or a state nobody should have loaded): the
   * machine stands still from then on. Default: the error is thrown where nobody catches it.
   */
  readonly onFailure?: (error: unknown) => void;
}

/**
 * A new machine is paused; `resume` starts it. Its slot has to be filled, by `attach`, before. Everything between two
 * ticks of the emulator, which last about a millisecond, happens while no vCPU executes; `pause` makes that last.
 */
export class PcMachine implements Machine {
  readonly kind = "linux";
  readonly memory: PcMemory;
  readonly cpuDirtyLog: CpuDirtyLog;
  readonly interrupts: PcInterrupts;
  readonly console: SerialConsole;
  readonly clock: MachineClock;
  readonly #core: V86Core;
  readonly #cpu: V86Cpu;
  readonly #slot: PciSlot;
  readonly #stateContext: StateContext;
  readonly #onFailure: ((error: unknown) => void) | undefined;
  #isPaused = true;
  #isInsideTick = false;
  #isClosed = false;
  #hasRun = false;
  readonly #hasBoot: boolean;
  #isSkippingIdleTime = false;
  #afterTick: (() => void)[] = [];

  private constructor(
    emulator: V86Emulator,
    parts: { module: PcEmulator; options: PcMachineOptions; clock: MachineClock; hash: Hash32 },
  ) {
    const { options, clock } = parts;
    this.#core = emulator.v86;
    this.#cpu = emulator.v86.cpu;
    this.#stateContext = { cpu: this.#cpu, clock, hash: parts.hash };
    this.#onFailure = options.onFailure;
    this.#hasBoot = options.boot !== undefined;
    this.clock = clock;
    const canInterrupt = (): boolean => !this.#isPaused && !this.#isInsideTick;
    this.memory = new PcMemory(this.#cpu);
    this.interrupts = new PcInterrupts(this.#cpu, canInterrupt);
    this.console = new SerialConsole(emulator, canInterrupt);
    this.#slot = new PciSlot(this.#cpu, this.memory.sizeBytes);
    this.cpuDirtyLog =
      parts.module.dirtyLogMethod === "wasm"
        ? new WasmCpuDirtyLog(this.#cpu, this.memory, () => this.#isInsideTick)
        : new ShadowCompareDirtyLog(this.memory);
    mendHotPlug(this.#cpu);
    protectBiosShadow(this.#cpu);
    clearEmptyBars(this.#cpu);
    drawNothing(this.#cpu);
    putTimersOnClock(this.#cpu, { machine: clock, wall: options.wallClock ?? { nowMs: () => Date.now() } });
    this.#watchTicks();
  }

  /** Throws OperationError `emulator-unsupported` when v86 is not the version we know. */
  static async create(module: PcEmulator, options: PcMachineOptions): Promise<PcMachine> {
    const { memoryBytes } = options;
    const { min, max, multipleOf } = pcMemoryBytes;
    assert(memoryBytes >= min && memoryBytes <= max && memoryBytes % multipleOf === 0, `memory size ${memoryBytes}`);
    const clock = new MachineClock(options.hostClock ?? { nowMs: () => performance.now() });
    const randomU32 = options.randomU32 ?? (() => crypto.getRandomValues(new Uint32Array(1))[0] ?? 0);
    const hashes = await xxhash();
    const hash: Hash32 = (bytes) => hashes.h32Raw(bytes);
    const { bios, vgaBios, boot } = options;
    const emulator = await createEmulator(module, { memoryBytes, bios, vgaBios, boot, clock, randomU32 });
    return new PcMachine(emulator, { module, options, clock, hash });
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** Instructions executed, modulo 2^32; stands still while the machine is paused. */
  get instructionCount(): number {
    return this.#cpu.instruction_counter[0] ?? 0;
  }

  attach(pciFunction: PciFunction): void {
    assert(!this.#hasRun, "a function is attached before the guest runs");
    this.#slot.plug(pciFunction);
  }

  pause(): Promise<void> {
    if (!this.#isPaused) {
      this.#isPaused = true;
      // A tick that is scheduled is void by its number, one that is on the stack ends and schedules no other.
      this.#core.running = false;
      this.#core.tick_counter++;
      // A tick ends by the clock, which therefore must not stand while one is on the stack.
      if (!this.#isInsideTick) this.clock.stop();
    }
    return this.#isInsideTick ? new Promise((resolve) => this.#afterTick.push(resolve)) : Promise.resolve();
  }

  resume(): Promise<void> {
    assert(!this.#isClosed, "a closed machine cannot run");
    if (!this.#isPaused) return Promise.resolve();
    this.#isPaused = false;
    this.#hasRun = true;
    this.clock.start();
    this.console.deliver();
    this.#core.run();
    return Promise.resolve();
  }

  /**
   * While on, a guest that waits in HLT finds the time of its next timer come at once: seconds of sleep pass in
   * milliseconds. Only for phases that wait for nothing from outside, such as a boot.
   */
  set isSkippingIdleTime(value: boolean) {
    this.#isSkippingIdleTime = value;
  }

  saveState(): Uint8Array<ArrayBuffer> {
    this.#assertStill();
    return saveMachineState(this.#stateContext, this.console);
  }

  /**
   * Runs the code that saves a few times, so that the host has compiled it when it counts: the first run takes 4 ms, the
   * later ones less than 1. The guest need not be paused, but an instruction must not be under way.
   */
  rehearseSave(): void {
    assert(!this.#isInsideTick, "the machine's state is taken in the middle of an instruction");
    for (let i = 0; i < rehearsals; i++) saveMachineState(this.#stateContext, this.console);
  }

  restoreState(state: Uint8Array): void {
    this.#assertStill();
    restoreMachineState(this.#stateContext, this.console, state);
  }

  /**
   * What a destination can do before the switchover: RAM is all zero after it, and the code that will load the state
   * has been run, with the state of this machine.
   */
  prepareRestore(): void {
    this.zeroMemory();
    for (let i = 0; i < rehearsals; i++) this.restoreState(this.saveState());
  }

  /** RAM of a machine that has not run and does not boot is zero but for the BIOS; after this it is zero. */
  zeroMemory(): void {
    assert(!this.#hasRun && !this.#hasBoot, "a destination neither runs nor boots");
    this.#cpu.zero_memory(0, mebibyte);
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.pause();
    this.#core.destroy();
  }

  #assertStill(): void {
    assert(this.#isPaused && !this.#isInsideTick, "the machine's state is taken or loaded while it runs");
  }

  #watchTicks(): void {
    const core = this.#core;
    const mainLoop = this.#cpu.main_loop.bind(this.#cpu);
    this.#cpu.main_loop = () => {
      this.#isInsideTick = true;
      try {
        return mainLoop();
      } catch (error) {
        this.#fail(error);
        return 0;
      } finally {
        this.#isInsideTick = false;
        this.#tickEnded();
      }
    };
    const yieldUntil = core.yield.bind(core);
    core.yield = (ms, tick) => {
      if (this.#isPaused) return;
      const isWaiting = this.#cpu.in_hlt[0] === 1 && ms > 0;
      if (isWaiting && this.#isSkippingIdleTime) {
        this.clock.skip(ms);
        yieldUntil(0, tick);
      } else {
        // v86 would spin through the last millisecond before each of the guest's timers. An interrupt wakes it anyway.
        yieldUntil(isWaiting ? Math.ceil(ms) : 0, tick);
      }
    };
  }

  #tickEnded(): void {
    if (this.#isPaused) this.clock.stop();
    this.console.flush();
    this.console.deliver();
    const waiting = this.#afterTick;
    this.#afterTick = [];
    for (const resolve of waiting) resolve();
  }

  #fail(error: unknown): void {
    void this.pause();
    if (this.#onFailure === undefined) throw error;
    this.#onFailure(error);
  }
}

/** Rounds after which the host's compiler has had its say. */
const rehearsals = 3;
