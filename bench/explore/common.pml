/*
 * The common model in Promela: K queues of N packets. A queue's device writes buffer, descriptor, buffer, descriptor, ...;
 * its ring is one page, each of its buffers one page, and a page is copied as a unit. ORDER 0 copies all rings before the
 * first buffer, ORDER 1 all buffers before the first ring; within each of the two, any order. Every choice is an option of
 * its own in one loop of d_steps, and sets are masks of bits: of several ways of writing it this was the fastest.
 */
#ifndef ORDER
#define ORDER 0
#endif
#define K 3
#define N 3
#define ALL_RINGS 7
#define ALL_BUFFERS 511

byte written[K];          /* writes the device has done; packet i is done at 2 * i + 2 */
byte done[K];             /* descriptors that the copied ring shows as done */
byte ringsCopied;         /* a bit each */
unsigned buffersCopied : 9;
unsigned buffersWhole : 9; /* buffers whose copy holds the packet */

#if ORDER == 0
#define RINGS_DUE 1
#define BUFFERS_DUE (ringsCopied == ALL_RINGS)
#else
#define RINGS_DUE (buffersCopied == ALL_BUFFERS)
#define BUFFERS_DUE 1
#endif

#define DEVICE(q) :: d_step { written[q] < 2 * N -> written[q]++ }
#define RING(q) :: d_step { RINGS_DUE && !(ringsCopied & (1 << q)) -> \
    done[q] = written[q] / 2; ringsCopied = ringsCopied | (1 << q) }
#define BUFFER(q, i) :: d_step { BUFFERS_DUE && !(buffersCopied & (1 << (q * N + i))) -> \
    buffersWhole = buffersWhole | (((written[q] + 1) / 2 > i) << (q * N + i)); \
    buffersCopied = buffersCopied | (1 << (q * N + i)) }
#define CONSISTENT(q, i) (done[q] <= i || (buffersWhole & (1 << (q * N + i))))

active proctype move() {
end:
  do
  DEVICE(0) DEVICE(1) DEVICE(2)
  RING(0) RING(1) RING(2)
  BUFFER(0, 0) BUFFER(0, 1) BUFFER(0, 2)
  BUFFER(1, 0) BUFFER(1, 1) BUFFER(1, 2)
  BUFFER(2, 0) BUFFER(2, 1) BUFFER(2, 2)
  :: d_step { ringsCopied == ALL_RINGS && buffersCopied == ALL_BUFFERS ->
      assert(CONSISTENT(0, 0) && CONSISTENT(0, 1) && CONSISTENT(0, 2) &&
        CONSISTENT(1, 0) && CONSISTENT(1, 1) && CONSISTENT(1, 2) &&
        CONSISTENT(2, 0) && CONSISTENT(2, 1) && CONSISTENT(2, 2)) }
  od
}
