// The device's regions: configuration space and BARs, read and written in the widths that the function has.
import type { AccessBytes, PciFunction } from "../../../pci/function.ts";
import { CONFIGURATION_BYTES } from "../../../pci/configuration-space.ts";
import type { Fields, ReplyBuffer } from "./fields.ts";
import type { MsixLocation } from "./msix-location.ts";
import {
  DATA_BYTES_MAX,
  Errno,
  PCI_REGIONS,
  REGION_CONFIGURATION,
  REGION_FLAG_READ,
  REGION_FLAG_WRITE,
} from "./protocol.ts";

/** struct vfio_region_info without capabilities. */
const REGION_INFO_BYTES = 32;
/** struct vfio_user_region_access before its data. */
const ACCESS_BYTES = 16;
/** One write of REGION_WRITE_MULTI: the same, with always 8 bytes of data. */
const MULTI_WRITE_BYTES = 24;
const MULTI_DATA_BYTES = 8;
/** struct vfio_user_region_io_fds_reply before its sub-regions. */
const IO_FDS_BYTES = 16;

/** The widest access that fits at this offset: the function knows 4, 2 and 1 bytes, aligned to their width. */
function widthAt(offset: number, left: number): AccessBytes {
  if ((offset & 3) === 0 && left >= 4) return 4;
  return (offset & 1) === 0 && left >= 2 ? 2 : 1;
}

function getValue(data: Uint8Array, at: number, width: AccessBytes): number {
  let value = 0;
  for (let i = width - 1; i >= 0; i--) value = (value << 8) | (data[at + i] as number);
  return value >>> 0;
}

function setValue(data: Uint8Array, at: number, width: AccessBytes, value: number): void {
  for (let i = 0; i < width; i++) data[at + i] = value >>> (8 * i);
}

/**
 * Accesses of any length are split into aligned ones of at most 4 bytes, in ascending order. No region can be mapped:
 * every access is a message, which is what lets the device act on a doorbell at once.
 *
 * Writes to the MSI-X table are dropped: clients emulate the table, and the device's own holds the messages of irqs.ts.
 */
export class Regions {
  readonly #pci: PciFunction;
  readonly #msix: MsixLocation;
  readonly #sizes = new Float64Array(PCI_REGIONS);

  constructor(pci: PciFunction, msix: MsixLocation) {
    this.#pci = pci;
    this.#msix = msix;
    for (const bar of pci.bars) this.#sizes[bar.index] = bar.sizeBytes;
    this.#sizes[REGION_CONFIGURATION] = CONFIGURATION_BYTES;
  }

  /** DEVICE_GET_REGION_INFO. */
  info(request: Fields, reply: ReplyBuffer): Errno {
    if (request.length < REGION_INFO_BYTES || request.u32(0) < REGION_INFO_BYTES) return Errno.invalid;
    const index = request.u32(8);
    if (index >= PCI_REGIONS) return Errno.invalid;
    const size = this.#sizes[index] as number;
    reply
      .payload(REGION_INFO_BYTES)
      .setU32(0, REGION_INFO_BYTES)
      .setU32(4, size === 0 ? 0 : REGION_FLAG_READ | REGION_FLAG_WRITE)
      .setU32(8, index)
      .setU64(16, size);
    return Errno.none;
  }

  /** DEVICE_GET_REGION_IO_FDS: no sub-region is accessed by descriptor. */
  ioDescriptors(request: Fields, reply: ReplyBuffer): Errno {
    if (request.length < IO_FDS_BYTES || request.u32(0) < IO_FDS_BYTES) return Errno.invalid;
    const index = request.u32(8);
    if (request.u32(4) !== 0 || request.u32(12) !== 0 || (this.#sizes[index] ?? 0) === 0) return Errno.invalid;
    reply.payload(IO_FDS_BYTES).setU32(0, IO_FDS_BYTES).setU32(8, index);
    return Errno.none;
  }

  /** REGION_READ. */
  read(request: Fields, reply: ReplyBuffer): Errno {
    if (request.length < ACCESS_BYTES) return Errno.invalid;
    const offset = request.u64(0);
    const region = request.u32(8);
    const count = request.u32(12);
    if (!this.#isInside(region, offset, count)) return Errno.invalid;
    const answer = reply
      .payload(ACCESS_BYTES + count)
      .setU64(0, offset)
      .setU32(8, region)
      .setU32(12, count);
    for (let done = 0; done < count;) {
      const width = widthAt(offset + done, count - done);
      setValue(answer.bytes, ACCESS_BYTES + done, width, this.#readOnce(region, offset + done, width));
      done += width;
    }
    return Errno.none;
  }

  /** REGION_WRITE. */
  write(request: Fields, reply: ReplyBuffer): Errno {
    if (request.length < ACCESS_BYTES) return Errno.invalid;
    const offset = request.u64(0);
    const region = request.u32(8);
    const count = request.u32(12);
    if (request.length !== ACCESS_BYTES + count || !this.#isInside(region, offset, count)) return Errno.invalid;
    this.#write(region, offset, request.bytes.subarray(ACCESS_BYTES));
    reply.payload(ACCESS_BYTES).setU64(0, offset).setU32(8, region).setU32(12, count);
    return Errno.none;
  }

  /** REGION_WRITE_MULTI: the writes before the first that cannot be done are done; the reply says how many. */
  writeMulti(request: Fields, reply: ReplyBuffer): Errno {
    if (request.length < 8) return Errno.invalid;
    const count = request.u64(0);
    if (request.length < 8 + count * MULTI_WRITE_BYTES) return Errno.invalid;
    let done = 0;
    while (done < count && this.#writeOne(request, 8 + done * MULTI_WRITE_BYTES)) done++;
    reply.payload(8).setU64(0, done);
    return Errno.none;
  }

  #writeOne(request: Fields, at: number): boolean {
    const offset = request.u64(at);
    const region = request.u32(at + 8);
    const count = request.u32(at + 12);
    if (count > MULTI_DATA_BYTES || !this.#isInside(region, offset, count)) return false;
    this.#write(region, offset, request.bytes.subarray(at + ACCESS_BYTES, at + ACCESS_BYTES + count));
    return true;
  }

  #isInside(region: number, offset: number, count: number): boolean {
    return count <= DATA_BYTES_MAX && offset + count <= (this.#sizes[region] ?? 0);
  }

  #write(region: number, offset: number, data: Uint8Array): void {
    for (let done = 0; done < data.length;) {
      const width = widthAt(offset + done, data.length - done);
      this.#writeOnce(region, offset + done, width, getValue(data, done, width));
      done += width;
    }
  }

  #readOnce(region: number, offset: number, width: AccessBytes): number {
    return region === REGION_CONFIGURATION
      ? this.#pci.readConfiguration(offset, width)
      : this.#pci.readBar(region, offset, width);
  }

  #writeOnce(region: number, offset: number, width: AccessBytes, value: number): void {
    if (region === REGION_CONFIGURATION) this.#pci.writeConfiguration(offset, width, value);
    else if (!this.#msix.holds(region, offset)) this.#pci.writeBar(region, offset, width, value);
  }
}
