// The register file behind BAR0: 32-bit accesses by the register table, everything else counted as a guest's mistake.
import { RegisterEffect, registerTable } from "./register-table.ts";
import type { RegisterKind } from "./register-table.ts";
import { REGISTER_BAR_BYTES, REGISTER_COUNT } from "./registers.ts";

/** The device behind the registers. Called on the hot path; `instance` is the queue, vector or word of the row. */
export interface RegisterEffects {
  /** A read is about to return the register: the last chance to set it (the timer). */
  beforeRead(effect: RegisterEffect, instance: number): void;
  /** A read returned the register and cleared what it clears. */
  afterRead(effect: RegisterEffect, instance: number): void;
  /** A write was stored. `written` is what the guest wrote, `before` what the register held. */
  afterWrite(effect: RegisterEffect, instance: number, written: number, before: number): void;
}

/** The guest's mistakes with registers, counted and otherwise without effect. */
export interface RegisterMistakes {
  /** Accesses that were not 32 bits wide at a multiple of four. */
  oddAccesses: number;
  /** Accesses to offsets where the VF has no register. */
  unknownRegisters: number;
}

const kindCodes = {
  plain: 1,
  "read-only": 2,
  "read-to-clear": 3,
  "write-one-to-set": 4,
  "write-one-to-clear": 5,
  trigger: 6,
} as const satisfies Record<RegisterKind, number>;

/** The table spread out by register index, made once for all VFs. */
const layout = {
  kind: new Uint8Array(REGISTER_COUNT),
  effect: new Uint8Array(REGISTER_COUNT),
  instance: new Uint8Array(REGISTER_COUNT),
  writeMask: new Uint32Array(REGISTER_COUNT),
  selfClearing: new Uint32Array(REGISTER_COUNT),
  clearOnRead: new Uint32Array(REGISTER_COUNT),
  target: new Uint16Array(REGISTER_COUNT),
};
for (const row of registerTable) {
  for (let i = 0; i < row.count; i++) {
    const index = (row.offset + i * row.strideBytes) >>> 2;
    layout.kind[index] = kindCodes[row.kind];
    layout.effect[index] = row.effect;
    layout.instance[index] = i;
    layout.writeMask[index] = row.writeMask;
    layout.selfClearing[index] = row.selfClearing;
    layout.clearOnRead[index] = row.clearOnRead;
    layout.target[index] = row.target >>> 2;
  }
}

/** Registers at their power-on values. */
export function makeRegisters(): Uint32Array {
  const registers = new Uint32Array(REGISTER_COUNT);
  resetRegisters(registers, { powerOn: true });
  return registers;
}

/** Gives registers their reset values: all of them at power-on, else those that FLR and VFCTRL.RST reach. */
export function resetRegisters(registers: Uint32Array, options: { powerOn: boolean }): void {
  for (const row of registerTable) {
    if (row.keptOverReset && !options.powerOn) continue;
    for (let i = 0; i < row.count; i++) registers[(row.offset + i * row.strideBytes) >>> 2] = row.resetValue;
  }
}

/**
 * Registers as the guest sees them. `registers` is shared with the units of the device, which read and set it
 * directly. An offset without a register reads as zero: the datasheet leaves that open, and all ones would look like a
 * surprise removal to the driver (ixgbevf_check_remove).
 */
export class RegisterFile {
  readonly registers: Uint32Array;
  readonly mistakes: RegisterMistakes = { oddAccesses: 0, unknownRegisters: 0 };
  readonly #effects: RegisterEffects;

  constructor(registers: Uint32Array, effects: RegisterEffects) {
    this.registers = registers;
    this.#effects = effects;
  }

  /**
   * Reads 32 bits at a multiple of four. Anything else is a mistake: the device sees a read of the whole register
   * (with what that clears), and the guest gets the addressed part of it, zero beyond it.
   */
  read(offset: number, bytes: number): number {
    if (bytes === 4 && (offset & 3) === 0 && offset < REGISTER_BAR_BYTES) return this.#read(offset >>> 2);
    this.mistakes.oddAccesses++;
    if (offset >= REGISTER_BAR_BYTES) return 0;
    const part = this.#read(offset >>> 2) >>> (8 * (offset & 3));
    return bytes === 4 ? part : (part & ((1 << (8 * bytes)) - 1)) >>> 0;
  }

  #read(index: number): number {
    const kind = layout.kind[index] as number;
    if (kind === 0) {
      this.mistakes.unknownRegisters++;
      return 0;
    }
    // A trigger and a write-one-to-clear register store nothing, so their word is always zero.
    const effect = layout.effect[index] as RegisterEffect;
    if (effect === RegisterEffect.timer) this.#effects.beforeRead(effect, 0);
    const value = this.registers[index] as number;
    if (kind === kindCodes["read-to-clear"]) {
      this.registers[index] = value & ~(layout.clearOnRead[index] as number);
      this.#effects.afterRead(effect, layout.instance[index] as number);
    }
    return value;
  }

  /** Writes 32 bits at a multiple of four; anything else is dropped and counted. */
  write(offset: number, bytes: number, value: number): void {
    if (bytes !== 4 || (offset & 3) !== 0 || offset >= REGISTER_BAR_BYTES) {
      this.mistakes.oddAccesses++;
      return;
    }
    const index = offset >>> 2;
    const registers = this.registers;
    const before = registers[index] as number;
    const mask = layout.writeMask[index] as number;
    switch (layout.kind[index] as number) {
      case kindCodes.plain:
        registers[index] = (before & ~mask) | (value & mask & ~(layout.selfClearing[index] as number));
        break;
      case kindCodes["write-one-to-set"]:
        registers[index] = before | (value & mask);
        break;
      case kindCodes["write-one-to-clear"]: {
        const target = layout.target[index] as number;
        registers[target] = (registers[target] as number) & ~(value & mask);
        break;
      }
      case kindCodes["read-to-clear"]:
        registers[index] = before & ~(value & mask & (layout.clearOnRead[index] as number));
        break;
      case kindCodes.trigger:
        break;
      case kindCodes["read-only"]:
        return;
      default:
        this.mistakes.unknownRegisters++;
        return;
    }
    const effect = layout.effect[index] as RegisterEffect;
    if (effect !== RegisterEffect.none) {
      this.#effects.afterWrite(effect, layout.instance[index] as number, value >>> 0, before);
    }
  }
}
