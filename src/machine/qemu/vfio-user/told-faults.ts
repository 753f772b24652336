// DMA that leads nowhere is told to the client, whose emulated IOMMU then shows the fault to the guest.
import { DmaStatus, type DmaPort } from "../../../iommu/dma-port.ts";
import { Fields } from "./fields.ts";
import { Command } from "./protocol.ts";
import type { ReplyListener } from "./requests.ts";

// Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use.
const { ok } = DmaStatus;

/** An address and a count, before the data. */
const ACCESS_BYTES = 16;

/** DeviceServer.request. */
export type FaultRequest = (command: Command, payload: Uint8Array, onReply: ReplyListener) => boolean;

/**
 * A DMA port to shared memory. What faults there is tried once more as a message: the client puts it through the IOMMU
 * it emulates, which refuses it just so, and records the fault where the guest's driver looks (with intel-iommu, a DMAR
 * fault in the kernel's log). If it does lead somewhere, such as to another device's registers, it is done, as on a bus.
 *
 * One at a time: faults that come before the client has answered to the last are counted and not told, so a device that
 * faults all day costs the client no more than one message in flight. The VF itself sees the fault at once.
 */
export class ToldFaults implements DmaPort {
  /** Accesses told to the client. */
  told = 0;
  /** Accesses that it had no ear for. */
  untold = 0;
  readonly #port: DmaPort;
  readonly #request: FaultRequest;
  #isTelling = false;

  constructor(port: DmaPort, request: FaultRequest) {
    this.#port = port;
    this.#request = request;
  }

  readWords(iova: number, target: Uint32Array, count: number): DmaStatus {
    const status = this.#port.readWords(iova, target, count);
    if (status !== ok) this.#tell(Command.dmaRead, iova, count * 4);
    return status;
  }

  readBytes(iova: number, target: Uint8Array, targetOffset: number, length: number): DmaStatus {
    const status = this.#port.readBytes(iova, target, targetOffset, length);
    if (status !== ok) this.#tell(Command.dmaRead, iova, length);
    return status;
  }

  writeWords(iova: number, source: Uint32Array, count: number, tag: number): DmaStatus {
    const status = this.#port.writeWords(iova, source, count, tag);
    if (status !== ok) this.#tell(Command.dmaWrite, iova, count * 4, bytesOf(source, count));
    return status;
  }

  writeBytes(iova: number, source: Uint8Array, sourceOffset: number, length: number, tag: number): DmaStatus {
    const status = this.#port.writeBytes(iova, source, sourceOffset, length, tag);
    if (status !== ok) this.#tell(Command.dmaWrite, iova, length, source.subarray(sourceOffset, sourceOffset + length));
    return status;
  }

  /** The client has gone, and its answer will not come. */
  reset(): void {
    this.#isTelling = false;
  }

  #tell(command: Command, iova: number, lengthBytes: number, data?: Uint8Array): void {
    if (this.#isTelling) {
      this.untold++;
      return;
    }
    const payload = new Uint8Array(ACCESS_BYTES + (data?.length ?? 0));
    new Fields(payload).setU64(0, iova).setU64(8, lengthBytes);
    if (data !== undefined) payload.set(data, ACCESS_BYTES);
    this.#isTelling = this.#request(command, payload, () => {
      this.#isTelling = false;
    });
    if (this.#isTelling) this.told++;
    else this.untold++;
  }
}

/** Words as they lie in memory, little-endian. */
function bytesOf(words: Uint32Array, count: number): Uint8Array {
  const bytes = new Uint8Array(count * 4);
  const fields = new Fields(bytes);
  for (let i = 0; i < count; i++) fields.setU32(i * 4, words[i] as number);
  return bytes;
}
