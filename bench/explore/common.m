-- The common model in Murphi: K queues of N packets. A queue's device writes buffer, descriptor, buffer, descriptor, ...;
-- its ring is one page, each of its buffers one page, and a page is copied as a unit. ORDER 0 copies all rings before the
-- first buffer, ORDER 1 all buffers before the first ring; within each of the two, any order.
-- QUEUE and ORDER are filled in: a range of numbers, or a scalarset, of which the checker then uses the symmetry.
const
  N: 3;
  ORDER: @ORDER@;
type
  queue: @QUEUE@;
  packet: 0..N-1;
var
  written: array [queue] of 0..2*N; -- writes the device has done; packet i is done at 2 * i + 2
  done: array [queue] of 0..N; -- descriptors that the copied ring shows as done
  ringCopied: array [queue] of boolean;
  bufferCopied: array [queue] of array [packet] of boolean;
  bufferWhole: array [queue] of array [packet] of boolean; -- the copy holds the packet
  ringsLeft: 0..3;
  buffersLeft: 0..9;

startstate begin
  for q: queue do
    written[q] := 0;
    done[q] := 0;
    ringCopied[q] := false;
    for i: packet do
      bufferCopied[q][i] := false;
      bufferWhole[q][i] := false;
    end;
  end;
  ringsLeft := 3;
  buffersLeft := 9;
end;

ruleset q: queue do
  rule "device writes" written[q] < 2 * N ==> begin
    written[q] := written[q] + 1;
  end;

  rule "copy ring" !ringCopied[q] & (ORDER = 0 | buffersLeft = 0) ==> begin
    done[q] := written[q] / 2;
    ringCopied[q] := true;
    ringsLeft := ringsLeft - 1;
  end;

  ruleset i: packet do
    rule "copy buffer" !bufferCopied[q][i] & (ORDER = 1 | ringsLeft = 0) ==> begin
      bufferWhole[q][i] := (written[q] + 1) / 2 > i;
      bufferCopied[q][i] := true;
      buffersLeft := buffersLeft - 1;
    end;
  end;
end;

invariant "a done descriptor has its buffer"
  ringsLeft + buffersLeft > 0 |
  forall q: queue do forall i: packet do (done[q] > i) -> bufferWhole[q][i] end end;
