// Vectors of floats in the widest registers that the compiler was told of, and the few functions on them.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
constexpr int LANES = 16, TILE = 4;  // floats in a vector; vectors in a tile: 6 rows of it must fit the registers
#elif defined(__AVX__)
constexpr int LANES = 8, TILE = 2;
#elif defined(__aarch64__)
constexpr int LANES = 4, TILE = 4;
#else
constexpr int LANES = 4, TILE = 2;
#endif
constexpr int ROWS = 6;    // rows that are multiplied at a time
constexpr int BLOCK = 48;  // rows that go through a whole network together, so that what is between layers stays cached
constexpr int PAD = 16;    // rows of matrices are padded with zeros to a multiple of it

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));

static inline int padded(int size) { return (size + PAD - 1) / PAD * PAD; }
static inline Vec all(float x) { return x - (Vec){}; }
static inline Vec load(const float* p) { Vec v; memcpy(&v, p, sizeof v); return v; }
static inline void store(float* p, Vec v) { memcpy(p, &v, sizeof v); }
// Comparisons with NaN are false: written so that a NaN in x stays one.
static inline Vec at_least(Vec x, Vec low) { return x < low ? low : x; }
static inline Vec at_most(Vec x, Vec high) { return x > high ? high : x; }
// In halves, always in the same order.
static inline float sum(Vec v) {
  float part[LANES];
  store(part, v);
  for (int half = LANES / 2; half; half /= 2)
    for (int i = 0; i < half; i++) part[i] += part[i + half];
  return part[0];
}
// A vector of the first `count` numbers that `of` gives, the rest 0: assigning single entries of a vector would stall.
template <class Of>
static inline Vec gathered(int count, Of of) {
  float part[LANES] = {};
  for (int i = 0; i < count; i++) part[i] = of(i);
  return load(part);
}

// e^x: 2^n times a Taylor polynomial of what remains, |rest| <= ln 2 / 2. Relative error below 2e-7.
static inline Vec exponential(Vec argument) {
  Vec x = at_most(at_least(argument, all(-87.0f)), all(88.0f));
  const Vec shifter = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  Vec n = (x * 1.44269504f + shifter) - shifter;
  Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
  Vec p = all(1.0f / 5040);
  p = p * r + 1.0f / 720; p = p * r + 1.0f / 120; p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6; p = p * r + 0.5f; p = p * r + 1.0f; p = p * r + 1.0f;
  Ints bits = (__builtin_convertvector(n, Ints) + 127) << 23;
  Vec scale; memcpy(&scale, &bits, sizeof scale);
  Vec power = argument > 88.7228f ? all(INFINITY) : p * scale;
  return argument == argument ? power : argument;
}

// tanh x = x P(x^2) / Q(x^2), fitted to least relative error on |x| <= 9.01, beyond which it is 1 in float32.
// Relative error below 4e-7.
static inline Vec hyperbolic_tangent(Vec x) {
  x = at_most(at_least(x, all(-9.01f)), all(9.01f));
  Vec s = x * x;
  Vec p = all(1.33364456e-08f);
  p = p * s + 2.05959766e-05f; p = p * s + 0.00349479293f; p = p * s + 0.133803564f; p = p * s + 0.999999979f;
  Vec q = all(7.76911589e-07f);
  q = q * s + 0.000328433358f; q = q * s + 0.025873958f; q = q * s + 0.467136718f; q = q * s + 1.0f;
  return at_most(at_least(x * p / q, all(-1.0f)), all(1.0f));
}
