// Interrupts: from the messages of the device's own MSI-X table to the eventfds that the client gave.
import type { MessageSink, PciFunction } from "../../../pci/function.ts";
import type { Descriptors } from "./descriptors.ts";
import type { Fields, ReplyBuffer } from "./fields.ts";
import { MSIX_ENTRY_BYTES, type MsixLocation } from "./msix-location.ts";
import * as p from "./protocol.ts";

const { Errno } = p;
type Errno = p.Errno;

/** struct vfio_irq_info, struct vfio_irq_set before its data. */
const IRQ_INFO_BYTES = 16;
const IRQ_SET_BYTES = 20;

/** Where the table's messages go: what the address range of x86's interrupt controllers begins with. */
const MESSAGE_ADDRESS = 0xfee0_0000;
const VECTOR_MASKED = 1;

/**
 * The MSI-X messages of a served device. The client emulates the table that the guest sees and keeps the guest's
 * addresses and data to itself; the server gets one eventfd per vector. So the device's own table is programmed with
 * artificial messages, always the same address and the number of the vector as data, and this sink turns them back.
 *
 * Made before the device, which is given it, and told afterwards whom to call.
 */
export class VectorMessages implements MessageSink {
  onVector: (vector: number) => void = () => {};

  deliver(addressLow: number, addressHigh: number, data: number): void {
    if (addressLow === MESSAGE_ADDRESS && addressHigh === 0) this.onVector(data);
  }
}

/** One line: its eventfd, and whether the client has masked it. */
interface Line {
  /** Undefined while nothing is to be signalled; "message" stands for one that could not come. */
  descriptor: number | "message" | undefined;
  isMasked: boolean;
}

/** What is done with eventfds; the native calls have it. */
export interface EventDescriptors {
  /** Whether it is one, and now safe to write to. */
  adoptEventfd(descriptor: number): boolean;
  /** Adds one. */
  signalEventfd(descriptor: number): boolean;
  closeDescriptor(descriptor: number): void;
}

export interface IrqsOptions {
  readonly pci: PciFunction;
  readonly msix: MsixLocation;
  readonly messages: VectorMessages;
  /** Undefined where no descriptor can come. */
  readonly events: EventDescriptors | undefined;
  /**
   * Raises a vector where no descriptor can come. A client that gives an eventfd and one that takes it away look the same
   * then, so every vector of a SET_IRQS is raised, until the client disables them all.
   */
  readonly raiseByMessage: ((vector: number) => void) | undefined;
}

/** What SET_IRQS asks for, checked. */
interface Change {
  /** `assign` gives each line its eventfd, or takes it away. */
  readonly kind: "assign" | "disable" | "trigger" | "mask" | "unmask";
  readonly lines: readonly Line[];
}

/**
 * The five interrupt types of a PCI device. MSI-X has the device's vectors; INTx and MSI have none. "Error" and "request"
 * have one each, as clients expect, and nothing here raises them: a VF's errors are its driver's to see, and QEMU 11.1 does not
 * listen to a request to let the device go.
 *
 * A vector without an eventfd, or masked by the client, is masked in the device's table, which keeps its message pending:
 * nothing is lost between the driver's enabling MSI-X and the client's SET_IRQS.
 */
export class Irqs {
  readonly #options: IrqsOptions;
  readonly #lines: readonly (readonly Line[])[];

  constructor(options: IrqsOptions) {
    const lines = (count: number): Line[] =>
      Array.from({ length: count }, () => ({ descriptor: undefined, isMasked: false }));
    this.#options = options;
    this.#lines = [[], [], lines(options.msix.vectors), lines(1), lines(1)];
    options.messages.onVector = (vector) => this.#raise(vector);
  }

  /** DEVICE_GET_IRQ_INFO. */
  info(request: Fields, reply: ReplyBuffer): Errno {
    if (request.length < IRQ_INFO_BYTES || request.u32(0) < IRQ_INFO_BYTES) return Errno.invalid;
    const index = request.u32(8);
    const lines = this.#lines[index];
    if (lines === undefined) return Errno.invalid;
    const maskable = index === p.IRQ_MSIX ? p.IRQ_INFO_MASKABLE : 0;
    reply
      .payload(IRQ_INFO_BYTES)
      .setU32(0, IRQ_INFO_BYTES)
      .setU32(4, lines.length === 0 ? 0 : p.IRQ_INFO_EVENTFD | maskable)
      .setU32(8, index)
      .setU32(12, lines.length);
    return Errno.none;
  }

  /** DEVICE_SET_IRQS. Descriptors that are not used are left in the bag. */
  set(request: Fields, descriptors: Descriptors): Errno {
    if (request.length < IRQ_SET_BYTES || request.u32(0) < IRQ_SET_BYTES) return Errno.invalid;
    const lines = this.#lines[request.u32(8)];
    if (lines === undefined) return Errno.invalid;
    const change = readChange(request, lines, descriptors.count);
    if (change === undefined || !this.#areEventfds(descriptors.left)) return Errno.invalid;
    for (const line of change.lines) this.#apply(change.kind, line, descriptors);
    this.programTable();
    return Errno.none;
  }

  /**
   * Writes into the device's table what it is to hold. Called after everything that may have changed it, or that may have
   * made it reachable: a reset, a restored state, memory decoding. While decoding is off the writes go nowhere.
   */
  programTable(): void {
    for (const [vector, line] of (this.#lines[p.IRQ_MSIX] ?? []).entries()) {
      const isMasked = line.isMasked || line.descriptor === undefined;
      // Masked first, unmasked last: a message goes out whole or not at all.
      if (isMasked) this.#programWord(vector, 3, VECTOR_MASKED);
      this.#programWord(vector, 0, MESSAGE_ADDRESS);
      this.#programWord(vector, 1, 0);
      this.#programWord(vector, 2, vector);
      if (!isMasked) this.#programWord(vector, 3, 0);
    }
  }

  /** Forgets the client: every eventfd is closed and every vector masked. */
  releaseAll(): void {
    for (const line of this.#lines.flat()) {
      this.#assign(line, undefined);
      line.isMasked = false;
    }
    this.programTable();
  }

  #programWord(vector: number, word: number, value: number): void {
    const { pci, msix } = this.#options;
    const offset = msix.tableOffset + vector * MSIX_ENTRY_BYTES + 4 * word;
    if (pci.readBar(msix.bar, offset, 4) !== value) pci.writeBar(msix.bar, offset, 4, value);
  }

  #areEventfds(descriptors: readonly number[]): boolean {
    const { events } = this.#options;
    return descriptors.every((descriptor) => events?.adoptEventfd(descriptor) === true);
  }

  #apply(kind: Change["kind"], line: Line, descriptors: Descriptors): void {
    if (kind === "trigger") {
      this.#signal(line);
    } else if (kind === "assign") {
      this.#assign(line, this.#options.events === undefined ? "message" : descriptors.take());
    } else {
      if (kind === "disable") this.#assign(line, undefined);
      line.isMasked = kind === "mask";
    }
  }

  #assign(line: Line, descriptor: Line["descriptor"]): void {
    if (typeof line.descriptor === "number") this.#options.events?.closeDescriptor(line.descriptor);
    line.descriptor = descriptor;
  }

  #raise(vector: number): void {
    const line = this.#lines[p.IRQ_MSIX]?.[vector];
    if (line?.descriptor === "message") this.#options.raiseByMessage?.(vector);
    else if (line !== undefined) this.#signal(line);
  }

  #signal(line: Line): void {
    if (typeof line.descriptor === "number") this.#options.events?.signalEventfd(line.descriptor);
  }
}

/**
 * What the message asks of these lines; undefined if it is wrong. Exactly one kind of data and one action; lines within
 * the type; a count of 0 disables the type, with no data and the action "trigger"; eventfds one for each line, or none to
 * take them away, and only for "trigger"; and only MSI-X can be masked.
 */
function readChange(request: Fields, lines: readonly Line[], descriptors: number): Change | undefined {
  const flags = request.u32(4);
  const data = flags & p.IRQ_DATA_MASK;
  const action = flags & p.IRQ_ACTION_TYPE_MASK;
  const start = request.u32(12);
  const count = request.u32(16);
  if (flags !== (data | action) || start + count > lines.length) return undefined;
  const isTrigger = action === p.IRQ_ACTION_TRIGGER;
  if (count === 0) {
    const isDisable = isTrigger && data === p.IRQ_DATA_NONE && start === 0 && descriptors === 0;
    return isDisable ? { kind: "disable", lines } : undefined;
  }
  const meant = lines.slice(start, start + count);
  if (data === p.IRQ_DATA_EVENTFD) {
    const isAssign = isTrigger && (descriptors === count || descriptors === 0);
    return isAssign ? { kind: "assign", lines: meant } : undefined;
  }
  const kind = plainKinds.get(action);
  if (kind === undefined || descriptors !== 0) return undefined;
  if (kind !== "trigger" && request.u32(8) !== p.IRQ_MSIX) return undefined;
  if (data === p.IRQ_DATA_NONE) return { kind, lines: meant };
  if (data !== p.IRQ_DATA_BOOL || request.length !== IRQ_SET_BYTES + count) return undefined;
  return { kind, lines: meant.filter((_, i) => request.bytes[IRQ_SET_BYTES + i] !== 0) };
}

const plainKinds: ReadonlyMap<number, Change["kind"]> = new Map([
  [p.IRQ_ACTION_MASK, "mask"],
  [p.IRQ_ACTION_UNMASK, "unmask"],
  [p.IRQ_ACTION_TRIGGER, "trigger"],
]);
