// DMA by messages: how the server reads and writes the client's memory without a mapping of it.
import { Fields } from "./fields.ts";
import { Command, FLAG_ERROR } from "./protocol.ts";
import type { ReplyListener } from "./requests.ts";

/** Takes what was read, good until it returns, or undefined if the client refused. */
export type ReadListener = (bytes: Uint8Array | undefined) => void;

/**
 * Reads and writes of the client's memory, in the order they were asked for. Neither waits: the client may itself be
 * waiting for an answer of ours. Addresses are the device's (before the client's IOMMU); one access moves at most the
 * max_data_xfer_size that was agreed on.
 */
export interface DmaRequester {
  /**
   * `onAnswer` is called once, and not before this returns; never if the client goes first. False, and nothing is asked,
   * if there is nobody to ask.
   */
  read(iova: number, lengthBytes: number, onAnswer: ReadListener): boolean;
  /** Copies the bytes. No answer comes, not even for what the client cannot write, or if there is no client. */
  write(iova: number, bytes: Uint8Array): void;
}

/** Sends a command to the client, with NO_REPLY unless someone listens: DeviceServer.request. */
export type RequestSender = (command: Command, payload: Uint8Array, onReply?: ReplyListener) => boolean;

/** The address and count of DMA_READ and DMA_WRITE, and of their replies (docs/vfio-user.rst, "VFIO_USER_DMA_READ"). */
const ACCESS_BYTES = 16;

/**
 * DMA_READ and DMA_WRITE. QEMU works them off in order, from its main loop (hw/vfio-user/pci.c, vfio_user_dma_read and
 * vfio_user_dma_write), but answers to *its* requests overtake them, since a waiting vCPU takes those by itself. So a
 * register that is read does not push out the writes before it, as it does on a bus.
 */
export function messageRequester(send: RequestSender): DmaRequester {
  return {
    read(iova, lengthBytes, onAnswer) {
      const payload = new Uint8Array(ACCESS_BYTES);
      new Fields(payload).setU64(0, iova).setU64(8, lengthBytes);
      return send(Command.dmaRead, payload, (reply) => {
        const isWhole = (reply.flags & FLAG_ERROR) === 0 && reply.payload.length === ACCESS_BYTES + lengthBytes;
        onAnswer(isWhole ? reply.payload.subarray(ACCESS_BYTES) : undefined);
      });
    },
    write(iova, bytes) {
      const payload = new Uint8Array(ACCESS_BYTES + bytes.length);
      new Fields(payload).setU64(0, iova).setU64(8, bytes.length);
      payload.set(bytes, ACCESS_BYTES);
      send(Command.dmaWrite, payload);
    },
  };
}
