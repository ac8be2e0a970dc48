// Products on tensor cores that are as exact as float32.
//
// A tensor core multiplies bfloat16 numbers, which have 8 bits, exactly, and adds the products in float32.  A byte less
// 128 is such a number; a float32 is the sum of three of them.  So the product of bytes and float32 numbers is that of
// the bytes and each of the three parts, the smallest first: larger sums are rounded less often.

typedef unsigned int word;      // two bfloat16 numbers; the first one is in the low half
typedef unsigned short half16;  // one

// The next bfloat16 part of x: the nearest one, which is taken from x.
__device__ __forceinline__ half16 next_part(float& x) {
    const word bits = __float_as_uint(x);
    const word rounded = bits + 0x7fff + (bits >> 16 & 1);
    x -= __uint_as_float(rounded & 0xffff0000);
    return rounded >> 16;
}

// A byte less 128, as bfloat16.
__device__ __forceinline__ half16 centred(uint8 byte) { return __float_as_uint(float(byte) - 128.0f) >> 16; }

#ifndef EMULATED
// d (16, 8) += a (16, 16) b (16, 8), by the 32 threads of a warp; lane l = 4 g + t has of
//   a: rows g, g + 8, g, g + 8 of columns 2 t and 2 t + 1, twice, then of columns 2 t + 8 and 2 t + 9
//   b: rows 2 t and 2 t + 1, then 2 t + 8 and 2 t + 9, of column g
//   d: row g of columns 2 t and 2 t + 1, then row g + 8
__device__ __forceinline__ void multiply_tile(float (&d)[4], const word (&a)[4], const word (&b)[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}
#endif

// What a lane needs of a tile a, whose rows have `row` words, and of a tile b that is kept column by column.
__device__ __forceinline__ void load_left(word (&a)[4], const word* from, int row) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    a[0] = from[g * row + t];
    a[1] = from[(g + 8) * row + t];
    a[2] = from[g * row + t + 4];
    a[3] = from[(g + 8) * row + t + 4];
}

__device__ __forceinline__ void load_right(word (&b)[2], const word* from, int column) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    b[0] = from[g * column + t];
    b[1] = from[g * column + t + 4];
}
