// What can go wrong on a QMP connection, said to the person who gave us its socket.
import { OperationError } from "../../base/errors.ts";

const ONE_CLIENT =
  "QEMU serves one client on a QMP socket: close the other one (libvirt, a monitor), or give QEMU a second socket with another -qmp option.";

/** QEMU understood the command and refused it. */
export function qmpError(refusal: {
  name: string;
  command: string;
  class: string;
  desc: string;
}): OperationError<"qmp-error"> {
  const { name, command, desc } = refusal;
  return new OperationError({
    code: "qmp-error",
    message: `QEMU at ${name} refused ${command}: ${desc}`,
    advice: "See what QEMU says; its version and the options it was started with decide what it can do.",
    facts: { socketPath: name, command, class: refusal.class, desc },
  });
}

export function qmpUnreachable(name: string, cause: Error): OperationError<"qmp-unreachable"> {
  return new OperationError({
    code: "qmp-unreachable",
    message: `nobody answers at the QMP socket ${name}: ${cause.message}`,
    advice: "Start QEMU with -qmp unix:PATH,server=on,wait=off, and let this user write to that socket.",
    facts: { socketPath: name },
    cause,
  });
}

export function qmpClosed(name: string, cause?: Error): OperationError<"qmp-closed"> {
  return new OperationError({
    code: "qmp-closed",
    message: `the QMP connection ${name} is closed${cause === undefined ? "" : `: ${cause.message}`}`,
    advice: "See whether that QEMU still runs, and why it ended.",
    facts: { socketPath: name },
    cause,
  });
}

/** Without `waitingFor` it is the greeting that does not come. */
export function qmpSilent(name: string, timeoutMs: number, waitingFor?: string): OperationError<"qmp-timeout"> {
  const isGreeting = waitingFor === undefined;
  return new OperationError({
    code: "qmp-timeout",
    message: `QEMU at ${name} ${isGreeting ? "did not greet" : `gave no sign of ${waitingFor}`} within ${timeoutMs} ms`,
    advice: isGreeting ? ONE_CLIENT : "See whether that QEMU is stopped by a debugger, or its host is out of memory.",
    facts: { socketPath: name, timeoutMs, waitingFor: waitingFor ?? "greeting" },
  });
}

/** The stream itself makes no sense, and is given up. */
export function qmpGarbled(name: string, problem: string): OperationError<"qmp-garbled"> {
  return new OperationError({
    code: "qmp-garbled",
    message: `what comes from ${name} is not QMP: ${problem}`,
    advice: "See that the path is that of a -qmp socket, not of a serial port or of the human monitor.",
    facts: { socketPath: name, problem },
  });
}

/** One reply is not what this side expects; the connection goes on. */
export function qmpMismatch(name: string, command: string, problem: string): OperationError<"qmp-garbled"> {
  return new OperationError({
    code: "qmp-garbled",
    message: `QEMU at ${name} answered ${command} with something unexpected: ${problem}`,
    advice: "This QEMU's version may be too new or too old; use 10.1 or newer.",
    facts: { socketPath: name, command, problem },
  });
}
