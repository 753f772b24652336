// The vfio-user protocol's numbers, as its specification and the two headers it is built on have them.
//
// Sources: the specification, docs/interop/vfio-user.rst of QEMU (10.1 and newer; the same text was libvfio-user's
// docs/vfio-user.rst), include/vfio-user.h of libvfio-user, and Linux's include/uapi/linux/vfio.h for all that vfio-user
// takes over from VFIO. All fields are little-endian here: the specification says the host's order, and this is that.

/** Major 0. Of the minor versions this side speaks all up to this one (LIB_VFIO_USER_MINOR of libvfio-user). */
export const VERSION_MAJOR = 0;
export const VERSION_MINOR = 2;

/** "Commands". 14 was DIRTY_PAGES and is no more. */
export const Command = {
  version: 1,
  dmaMap: 2,
  dmaUnmap: 3,
  deviceGetInfo: 4,
  deviceGetRegionInfo: 5,
  deviceGetRegionIoFds: 6,
  deviceGetIrqInfo: 7,
  deviceSetIrqs: 8,
  regionRead: 9,
  regionWrite: 10,
  /** From the server, as is the next. */
  dmaRead: 11,
  dmaWrite: 12,
  deviceReset: 13,
  regionWriteMulti: 15,
  deviceFeature: 16,
  migrationDataRead: 17,
  migrationDataWrite: 18,
} as const;
export type Command = (typeof Command)[keyof typeof Command];

/** "Header": id, command (16 bits each), size of the whole message, flags, error (32 bits each). */
export const HEADER_BYTES = 16;
export const FLAG_TYPE_MASK = 0xf;
export const TYPE_COMMAND = 0;
export const TYPE_REPLY = 1;
export const FLAG_NO_REPLY = 0x10;
export const FLAG_ERROR = 0x20;

/** Linux's errno numbers, which error replies carry. */
export const Errno = {
  none: 0,
  exists: 17,
  invalid: 22,
  notSupportedByDevice: 25,
  noSpace: 28,
} as const;
export type Errno = (typeof Errno)[keyof typeof Errno];

/** struct vfio_device_info: flags, and how many regions and interrupt types a PCI device has. */
export const DEVICE_FLAG_RESET = 1;
export const DEVICE_FLAG_PCI = 2;
export const PCI_REGIONS = 9;
export const PCI_IRQS = 5;

/** VFIO_PCI_*_REGION_INDEX; 0 to 5 are the BARs, 6 is the expansion ROM, 8 the legacy VGA ranges. */
export const REGION_CONFIGURATION = 7;
export const REGION_FLAG_READ = 1;
export const REGION_FLAG_WRITE = 2;

/** VFIO_PCI_*_IRQ_INDEX; 0 is INTx and 1 is MSI, of which a VF has none, and 3 is for errors. */
export const IRQ_MSIX = 2;

export const IRQ_INFO_EVENTFD = 1;
export const IRQ_INFO_MASKABLE = 2;

export const IRQ_DATA_NONE = 1;
export const IRQ_DATA_BOOL = 2;
export const IRQ_DATA_EVENTFD = 4;
export const IRQ_DATA_MASK = 7;
export const IRQ_ACTION_MASK = 8;
export const IRQ_ACTION_UNMASK = 0x10;
export const IRQ_ACTION_TRIGGER = 0x20;
export const IRQ_ACTION_TYPE_MASK = 0x38;

/** Flags of DMA_MAP. The first two are also DmaAccess's; the last two say how a descriptor may be used. */
export const DMA_MAP_ACCESS_MASK = 3;
export const DMA_MAP_MMAP = 4;
export const DMA_MAP_FILE_IO = 8;

export const DMA_UNMAP_GET_DIRTY_BITMAP = 1;
export const DMA_UNMAP_ALL = 2;

/** Flags of DEVICE_FEATURE: the feature's number in the lower half. */
export const FEATURE_MASK = 0xffff;
export const FEATURE_GET = 0x1_0000;
export const FEATURE_SET = 0x2_0000;
export const FEATURE_PROBE = 0x4_0000;

export const Feature = {
  migration: 1,
  migrationDeviceState: 2,
  dmaLoggingStart: 6,
  dmaLoggingStop: 7,
  dmaLoggingReport: 8,
} as const;

export const MIGRATION_STOP_COPY = 1;
export const MIGRATION_P2P = 2;
export const MIGRATION_PRE_COPY = 4;

/**
 * Bounds of this side. Those that are negotiated are not below the specification's defaults, so that a client that
 * proposes nothing gets what it then assumes.
 */
/** Bytes of data in one message, either way. */
export const DATA_BYTES_MAX = 1 << 20;
export const DMA_MAPS_MAX = 65_535;
/** Commands sent to the client and not yet answered. */
export const REQUESTS_MAX = 1024;
/** DMA_MAP works in whole pages of this size. */
export const PAGE_BYTES = 4096;
