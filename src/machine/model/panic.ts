// How the model guest dies: of its own mistakes, never taking the host with it.

/** Thrown inside the guest and caught by the machine, which stands still from then on and says why. */
export class GuestPanic extends Error {
  override readonly name = "GuestPanic";
}

/** For places that are passed with every frame: guestExpects would compose its sentence each time. */
export function guestPanics(trouble: string): never {
  throw new GuestPanic(trouble);
}

export function guestExpects(condition: boolean, trouble: string): asserts condition {
  if (!condition) throw new GuestPanic(trouble);
}
