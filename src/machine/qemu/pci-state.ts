// What QEMU itself keeps of a vfio-user PCI device and does not migrate: base addresses, command, MSI-X control and table.
import * as v from "valibot";
import { OperationError } from "../../base/errors.ts";

/** Raised whenever the meaning of a field changes. */
const PCI_STATE_VERSION = 1;
/** Far above what an 82599 VF has; 2048 is what PCI allows. */
export const MSIX_ENTRIES_MAX = 64;
export const MSIX_ENTRY_WORDS = 4;
const BRIDGES_MAX = 8;
const STATE_BYTES_MAX = 64 * 1024;

const integer = (max: number, min = 0) => v.pipe(v.number(), v.integer(), v.minValue(min), v.maxValue(max));
const u16 = integer(0xffff);
const u32 = integer(0xffff_ffff);
const words = (count: number) => v.pipe(v.array(u32), v.length(count));

const addressSchema = v.strictObject({ bus: integer(255), slot: integer(31), function: integer(7) });

/**
 * QEMU's half of the device, as hw/vfio/pci.c divides it: base address registers and the MSI-X capability are emulated by
 * QEMU, so is the table; of the command register QEMU needs its own copy. All else is passed to the server, which has
 * the VF's own state, and every write of configuration space reaches both.
 */
const pciStateSchema = v.pipe(
  v.strictObject({
    device: v.literal("qemu-pci-function"),
    version: v.literal(PCI_STATE_VERSION),
    vendorId: u16,
    deviceId: u16,
    address: addressSchema,
    /** The host bridge's PCIEXBAR: where configuration space lies in guest physical memory. */
    window: words(2),
    /** On the way from the root bus, outermost first: so that the device can be reached before QEMU's own state is there. */
    bridges: v.pipe(
      v.array(
        v.strictObject({
          address: addressSchema,
          command: u16,
          /** Primary, secondary and subordinate bus number, from the lowest byte. */
          busNumbers: integer(0xff_ffff),
          /** Registers 0x20 to 0x2f: the ranges of memory that pass. */
          memory: words(4),
        }),
      ),
      v.maxLength(BRIDGES_MAX),
    ),
    command: u16,
    bars: words(6),
    msix: v.strictObject({
      /** Of the capability, in configuration space. */
      offset: v.pipe(integer(0xf4, 0x40), v.multipleOf(4)),
      control: u16,
      bar: integer(5),
      tableOffset: v.pipe(u32, v.multipleOf(8)),
      /** Four words an entry: address, upper address, data, control. Null while the guest has memory decoding off. */
      table: v.nullable(
        v.pipe(v.array(u32), v.minLength(MSIX_ENTRY_WORDS), v.maxLength(MSIX_ENTRY_WORDS * MSIX_ENTRIES_MAX)),
      ),
    }),
  }),
  v.check(
    ({ msix: { control, table } }) => table === null || table.length === MSIX_ENTRY_WORDS * tableEntries(control),
    "the MSI-X table is not as long as its control says",
  ),
  v.check(
    (state) => state.msix.table === null || Number.isSafeInteger(tableAddress(state)),
    "the MSI-X table is not in reach of a number",
  ),
);
export type PciState = v.InferOutput<typeof pciStateSchema>;

export const pciStateIdentity = { device: "qemu-pci-function", version: PCI_STATE_VERSION } as const;

/** Message Control, bits 10:0, hold the number of entries less one (PCI Local Bus 3.0, section 6.8.2.3). */
export function tableEntries(control: number): number {
  return (control & 0x7ff) + 1;
}

export interface TablePlace {
  readonly bars: readonly number[];
  readonly msix: { readonly bar: number; readonly tableOffset: number };
}

/** Guest physical address of the MSI-X table, as the base address registers have it. */
export function tableAddress(state: TablePlace): number {
  const { bars, msix } = state;
  const low = bars[msix.bar] ?? 0;
  const high = (low & 6) === 4 ? (bars[msix.bar + 1] ?? 0) : 0;
  return high * 0x1_0000_0000 + ((low & ~0xf) >>> 0) + msix.tableOffset;
}

/** UTF-8 JSON, a kilobyte or so. */
export function encodePciState(state: PciState): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(state));
}

/** Reads what encodePciState wrote, from whomever. Throws OperationError `pci-state-version` or `pci-state-invalid`. */
export function decodePciState(bytes: Uint8Array): PciState {
  if (bytes.length > STATE_BYTES_MAX) throw invalid(`${bytes.length} bytes are too many`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw invalid("it is not JSON in UTF-8", error);
  }
  const header = v.safeParse(v.object({ device: v.literal("qemu-pci-function"), version: v.number() }), parsed);
  if (header.success && header.output.version !== PCI_STATE_VERSION) {
    throw new OperationError({
      code: "pci-state-version",
      message: `the PCI state has version ${header.output.version}, this side reads version ${PCI_STATE_VERSION}`,
      advice: "Run the same version of Underway on both sides.",
      facts: { version: header.output.version, versionRead: PCI_STATE_VERSION },
    });
  }
  const result = v.safeParse(pciStateSchema, parsed, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw invalid(`${v.getDotPath(issue) ?? "it"}: ${issue.message}`);
}

function invalid(reason: string, cause?: unknown): OperationError<"pci-state-invalid"> {
  return new OperationError({
    code: "pci-state-invalid",
    message: `the PCI state cannot be used: ${reason}`,
    advice: "The state is damaged or was not made by Underway; the source still has the VM and can go on.",
    facts: { reason },
    cause,
  });
}
