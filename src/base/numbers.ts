// Addresses as numbers: what a 64-bit field of a register or descriptor becomes, and where numbers end.

/** The largest address that a number can tell from its neighbours. */
export const ADDRESS_MAX = Number.MAX_SAFE_INTEGER;

export function isAddress(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

/**
 * Joins the two halves of a 64-bit register or descriptor field. Addresses at or above 2^53 cannot be told apart
 * as numbers; all of them are folded onto ADDRESS_MAX, which no domain maps, so the device sees a fault.
 */
export function addressFromHalves(low: number, high: number): number {
  // Nearly every address lies below 4 GiB: no arithmetic of doubles for it.
  return high === 0 ? low >>> 0 : join(low, high);
}

function join(low: number, high: number): number {
  const joined = (high >>> 0) * 0x1_0000_0000 + (low >>> 0);
  return joined > ADDRESS_MAX ? ADDRESS_MAX : joined;
}
