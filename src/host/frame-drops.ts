// Frames that a VF did not write to memory, by cause: what the audit counts by.
export { dropsSince, frameDrops, framesLost, type FrameDrops } from "../audit/frame-drops.ts";
