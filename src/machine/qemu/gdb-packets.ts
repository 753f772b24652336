// Packets of gdb's remote protocol: `$`, the text, `#` and two hexadecimal digits of its sum modulo 256.

export function writePacket(text: string): string {
  return `$${text}#${sum(text)}`;
}

/**
 * The whole packets in `text`, with undefined for one whose sum is wrong, and what is left over. Acknowledgements (`+`)
 * between them are dropped; they say nothing on a socket.
 */
export function readPackets(text: string): {
  readonly packets: readonly (string | undefined)[];
  readonly rest: string;
} {
  const packets: (string | undefined)[] = [];
  let at = 0;
  for (;;) {
    const start = text.indexOf("$", at);
    if (start < 0) return { packets, rest: "" };
    const end = text.indexOf("#", start);
    if (end < 0 || end + 2 >= text.length) return { packets, rest: text.slice(start) };
    const body = text.slice(start + 1, end);
    packets.push(text.slice(end + 1, end + 3) === sum(body) ? body : undefined);
    at = end + 3;
  }
}

function sum(text: string): string {
  let total = 0;
  for (let i = 0; i < text.length; i++) total += text.charCodeAt(i);
  return (total & 0xff).toString(16).padStart(2, "0");
}
