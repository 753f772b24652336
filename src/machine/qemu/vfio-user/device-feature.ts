// DEVICE_FEATURE: what a client may probe, get and set: migration, its state, and DMA logging.
import type { DeviceMigration } from "./device-migration.ts";
import type { DirtyRange, DmaLog } from "./dma-log.ts";
import type { Fields, ReplyBuffer } from "./fields.ts";
import {
  DATA_BYTES_MAX,
  Errno,
  Feature,
  FEATURE_GET,
  FEATURE_MASK,
  FEATURE_PROBE,
  FEATURE_SET,
  MIGRATION_P2P,
  MIGRATION_PRE_COPY,
  MIGRATION_STOP_COPY,
  PAGE_BYTES,
} from "./protocol.ts";

/** struct vfio_user_device_feature before its data, and the data of each feature. */
const HEADER_BYTES = 8;
const MIGRATION_BYTES = 8;
const STATE_BYTES = 8;
const LOGGING_CONTROL_BYTES = 16;
const LOGGING_RANGE_BYTES = 16;
const LOGGING_REPORT_BYTES = 24;
/** data_fd is not used in vfio-user. */
const NO_DESCRIPTOR = 0xffff_ffff;

/** What can be done with each feature, besides probing for it. */
const operations: ReadonlyMap<number, number> = new Map([
  [Feature.migration, FEATURE_GET],
  [Feature.migrationDeviceState, FEATURE_GET | FEATURE_SET],
  [Feature.dmaLoggingStart, FEATURE_SET],
  [Feature.dmaLoggingStop, FEATURE_SET],
  [Feature.dmaLoggingReport, FEATURE_GET],
]);

/** The features, as Linux's vfio_main.c has them: ENOTTY for one that does not exist, EINVAL for a wrong use of one. */
export class DeviceFeature {
  readonly #migration: DeviceMigration;
  readonly #log: DmaLog;

  constructor(migration: DeviceMigration, log: DmaLog) {
    this.#migration = migration;
    this.#log = log;
  }

  handle(request: Fields, reply: ReplyBuffer): Errno {
    if (request.length < HEADER_BYTES || request.u32(0) < HEADER_BYTES) return Errno.invalid;
    const flags = request.u32(4);
    const feature = flags & FEATURE_MASK;
    const asked = flags & ~FEATURE_MASK;
    const known = operations.get(feature);
    if (known === undefined) return Errno.notSupportedByDevice;
    if ((asked & ~(known | FEATURE_PROBE)) !== 0) return Errno.invalid;
    if ((asked & FEATURE_PROBE) !== 0) return echo(request, reply);
    if (asked === FEATURE_GET) return this.#get(feature, request, reply);
    return asked === FEATURE_SET ? this.#set(feature, request, reply) : Errno.invalid;
  }

  #get(feature: number, request: Fields, reply: ReplyBuffer): Errno {
    if (feature === Feature.dmaLoggingReport) return this.#report(request, reply);
    const data = begin(request, reply, feature === Feature.migration ? MIGRATION_BYTES : STATE_BYTES);
    if (data === undefined) return Errno.invalid;
    if (feature === Feature.migration) {
      data.setU64(HEADER_BYTES, MIGRATION_STOP_COPY | MIGRATION_P2P | MIGRATION_PRE_COPY);
    } else {
      data.setU32(HEADER_BYTES, this.#migration.state).setU32(HEADER_BYTES + 4, NO_DESCRIPTOR);
    }
    return Errno.none;
  }

  #set(feature: number, request: Fields, reply: ReplyBuffer): Errno {
    if (request.u32(0) < request.length) return Errno.invalid;
    if (feature === Feature.dmaLoggingStart) return this.#startLogging(request, reply);
    if (feature === Feature.dmaLoggingStop) {
      this.#log.stop();
      return echo(request, reply);
    }
    if (request.length < HEADER_BYTES + STATE_BYTES) return Errno.invalid;
    const error = this.#migration.setState(request.u32(HEADER_BYTES));
    return error === Errno.none ? echo(request, reply) : error;
  }

  #startLogging(request: Fields, reply: ReplyBuffer): Errno {
    if (request.length < HEADER_BYTES + LOGGING_CONTROL_BYTES || this.#log.isRunning) return Errno.invalid;
    const pageBytes = request.u64(HEADER_BYTES);
    const ranges = request.u32(HEADER_BYTES + 8);
    const at = HEADER_BYTES + LOGGING_CONTROL_BYTES;
    if (!Number.isInteger(Math.log2(pageBytes)) || request.u32(HEADER_BYTES + 12) !== 0) return Errno.invalid;
    if (request.length !== at + ranges * LOGGING_RANGE_BYTES) return Errno.invalid;
    for (let i = 0; i < ranges; i++) {
      const range = at + i * LOGGING_RANGE_BYTES;
      if (request.u64(range + 8) === 0) return Errno.invalid;
    }
    this.#log.start();
    reply.echo(request.bytes).setU64(HEADER_BYTES, PAGE_BYTES);
    return Errno.none;
  }

  #report(request: Fields, reply: ReplyBuffer): Errno {
    if (request.length < HEADER_BYTES + LOGGING_REPORT_BYTES) return Errno.invalid;
    const range: DirtyRange = {
      iova: request.u64(HEADER_BYTES),
      lengthBytes: request.u64(HEADER_BYTES + 8),
      pageBytes: request.u64(HEADER_BYTES + 16),
    };
    const bitmapBytes = this.#log.reportBytes(range);
    if (bitmapBytes === undefined || bitmapBytes > DATA_BYTES_MAX) return Errno.invalid;
    const data = begin(request, reply, LOGGING_REPORT_BYTES + bitmapBytes);
    if (data === undefined) return Errno.invalid;
    data.setU64(HEADER_BYTES, range.iova).setU64(HEADER_BYTES + 8, range.lengthBytes);
    data.setU64(HEADER_BYTES + 16, range.pageBytes);
    this.#log.report(range, data.bytes.subarray(HEADER_BYTES + LOGGING_REPORT_BYTES));
    return Errno.none;
  }
}

/** A reply to GET with room for this much data; undefined if the client has no room for it. */
function begin(request: Fields, reply: ReplyBuffer, dataBytes: number): Fields | undefined {
  const replyBytes = HEADER_BYTES + dataBytes;
  if (request.u32(0) < replyBytes) return undefined;
  return reply.payload(replyBytes).setU32(0, replyBytes).setU32(4, request.u32(4));
}

function echo(request: Fields, reply: ReplyBuffer): Errno {
  reply.echo(request.bytes);
  return Errno.none;
}
