// Registers in saved state: by their datasheet names, one number for each instance.
import { registerTable } from "./register-table.ts";

/** Values by register name; a row with several instances has them in order. */
export type RegisterState = Readonly<Record<string, readonly number[]>>;

/** Rows that store something. The timer is derived from the clock and saved apart. */
export const savedRows = registerTable.filter(
  ({ kind, name }) => kind !== "trigger" && kind !== "write-one-to-clear" && name !== "VFFRTIMER",
);

export function saveRegisters(registers: Uint32Array): RegisterState {
  return Object.fromEntries(
    savedRows.map((row) => [
      row.name,
      Array.from({ length: row.count }, (_, i) => registers[(row.offset + i * row.strideBytes) >>> 2] ?? 0),
    ]),
  );
}

/** Loads saved registers. Writable registers take only what a guest could have written; missing rows keep their value. */
export function restoreRegisters(registers: Uint32Array, state: RegisterState): void {
  for (const row of savedRows) {
    const mask = row.kind === "plain" ? (row.writeMask & ~row.selfClearing) >>> 0 : 0xffff_ffff;
    for (const [i, value] of (state[row.name] ?? []).slice(0, row.count).entries()) {
      registers[(row.offset + i * row.strideBytes) >>> 2] = value & mask;
    }
  }
}
