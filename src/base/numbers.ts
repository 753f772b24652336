// Branded numbers: addresses and page numbers that cannot be mixed up, made by checked constructors.
import { assert } from "./assert.ts";

declare const brand: unique symbol;
type Branded<Name extends string> = number & { readonly [brand]: Name };

/** Byte address in guest physical memory, a safe integer. */
export type GuestPhysicalAddress = Branded<"GuestPhysicalAddress">;
/** Byte address as the device puts it on the bus, before the IOMMU, a safe integer. */
export type Iova = Branded<"Iova">;
/** Guest page frame number: guest physical address divided by the page size. */
export type PageNumber = Branded<"PageNumber">;

export const ADDRESS_MAX = Number.MAX_SAFE_INTEGER;

export function isAddress(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

export function guestPhysicalAddress(value: number): GuestPhysicalAddress {
  assert(isAddress(value), `not a guest physical address: ${value}`);
  return value as GuestPhysicalAddress;
}

export function iova(value: number): Iova {
  assert(isAddress(value), `not an IOVA: ${value}`);
  return value as Iova;
}

export function pageNumber(value: number): PageNumber {
  assert(isAddress(value), `not a page number: ${value}`);
  return value as PageNumber;
}

/**
 * Joins the two halves of a 64-bit register or descriptor field. Addresses at or above 2^53 cannot be told apart
 * as numbers; all of them are folded onto ADDRESS_MAX, which no domain maps, so the device sees a fault.
 */
export function addressFromHalves(low: number, high: number): number {
  const joined = (high >>> 0) * 0x1_0000_0000 + (low >>> 0);
  return joined > ADDRESS_MAX ? ADDRESS_MAX : joined;
}
