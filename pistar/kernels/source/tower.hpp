// A tower of dense layers, forwards and backwards, one block of rows at a time.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "vector.hpp"

struct Aligned {  // floats at the start of a cache line, zero at first
  float* data = nullptr;
  explicit Aligned(size_t count) {
    size_t bytes = (count * sizeof(float) + 63) / 64 * 64 + 64;
    data = static_cast<float*>(std::aligned_alloc(64, bytes));
    if (!data) throw std::bad_alloc();
    memset(data, 0, bytes);
  }
  Aligned(Aligned&& other) noexcept : data(other.data) { other.data = nullptr; }
  Aligned(const Aligned&) = delete;
  ~Aligned() { std::free(data); }
  operator float*() const { return data; }
};

// y[rows][columns] = x[rows][depth] w[depth][columns] (+ bias), for a tile of N vectors of columns.
template <int N>
static inline void multiply_tile(const float* x, int xs, const float* w, int ws, const float* bias, float* y, int ys,
                                 int rows, int depth) {
  for (int r = 0; r < rows; r += ROWS) {
    Vec total[ROWS][N];
#pragma GCC unroll 8
    for (int u = 0; u < ROWS; u++)
#pragma GCC unroll 8
      for (int j = 0; j < N; j++) total[u][j] = bias ? load(bias + LANES * j) : all(0);
    for (int k = 0; k < depth; k++) {
      Vec column[N];
#pragma GCC unroll 8
      for (int j = 0; j < N; j++) column[j] = load(w + (size_t)k * ws + LANES * j);
#pragma GCC unroll 6
      for (int u = 0; u < ROWS; u++) {
        Vec factor = all(x[(size_t)(r + u) * xs + k]);
#pragma GCC unroll 8
        for (int j = 0; j < N; j++) total[u][j] += factor * column[j];
      }
    }
#pragma GCC unroll 8
    for (int u = 0; u < ROWS; u++)
#pragma GCC unroll 8
      for (int j = 0; j < N; j++) store(y + (size_t)(r + u) * ys + LANES * j, total[u][j]);
  }
}

template <int N, int U>
static inline void accumulate_rows(const float* a, int as, const float* b, int bs, float* total, int ts, int rows) {
  Vec sums[U][N];
#pragma GCC unroll 8
  for (int u = 0; u < U; u++)
#pragma GCC unroll 8
    for (int j = 0; j < N; j++) sums[u][j] = load(total + (size_t)u * ts + LANES * j);
  for (int r = 0; r < rows; r++) {
    Vec row[N];
#pragma GCC unroll 8
    for (int j = 0; j < N; j++) row[j] = load(b + (size_t)r * bs + LANES * j);
#pragma GCC unroll 8
    for (int u = 0; u < U; u++) {
      Vec factor = all(a[(size_t)r * as + u]);
#pragma GCC unroll 8
      for (int j = 0; j < N; j++) sums[u][j] += factor * row[j];
    }
  }
#pragma GCC unroll 8
  for (int u = 0; u < U; u++)
#pragma GCC unroll 8
    for (int j = 0; j < N; j++) store(total + (size_t)u * ts + LANES * j, sums[u][j]);
}

// total[depth][columns] += a[rows][depth]^T b[rows][columns], for a tile of N vectors of columns.
template <int N>
static inline void accumulate_tile(const float* a, int as, const float* b, int bs, float* total, int ts, int rows,
                                   int depth) {
  int k = 0;
  for (; k + 6 <= depth; k += 6) accumulate_rows<N, 6>(a + k, as, b, bs, total + (size_t)k * ts, ts, rows);
  for (; k + 2 <= depth; k += 2) accumulate_rows<N, 2>(a + k, as, b, bs, total + (size_t)k * ts, ts, rows);
  for (; k < depth; k++) accumulate_rows<N, 1>(a + k, as, b, bs, total + (size_t)k * ts, ts, rows);
}

static inline void multiply(const float* x, int xs, const float* w, int ws, const float* bias, float* y, int ys,
                            int rows, int depth, int columns) {
  int c = 0;
  for (; c + TILE * LANES <= columns; c += TILE * LANES)
    multiply_tile<TILE>(x, xs, w + c, ws, bias ? bias + c : nullptr, y + c, ys, rows, depth);
  for (; c < columns; c += LANES)
    multiply_tile<1>(x, xs, w + c, ws, bias ? bias + c : nullptr, y + c, ys, rows, depth);
}

// The same product for so few columns that most of a vector of them would be empty: w is [columns][depth], rows padded.
static inline void multiply_narrow(const float* x, int xs, const float* w, int ws, const float* bias, float* y, int ys,
                                   int rows, int columns) {
  for (int r = 0; r < rows; r++, x += xs, y += ys)
    for (int c = 0; c < columns; c++) {
      Vec total = all(0);
      for (int k = 0; k < xs; k += LANES) total += load(x + k) * load(w + (size_t)c * ws + k);
      y[c] = bias[c] + sum(total);
    }
}

static inline void accumulate(const float* a, int as, const float* b, int bs, float* total, int ts, int rows, int depth,
                              int columns) {
  int c = 0;
  for (; c + TILE * LANES <= columns; c += TILE * LANES)
    accumulate_tile<TILE>(a, as, b + c, bs, total + c, ts, rows, depth);
  for (; c < columns; c += LANES) accumulate_tile<1>(a, as, b + c, bs, total + c, ts, rows, depth);
}

// out[columns][rows] = in[rows][columns], in squares of four.
static inline void transpose(const float* in, int is, float* out, int os, int rows, int columns) {
  typedef float Four __attribute__((vector_size(16)));
#if defined(__clang__)
#define SHUFFLE(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
  typedef int32_t Which __attribute__((vector_size(16)));
#define SHUFFLE(x, y, ...) __builtin_shuffle(x, y, (Which){__VA_ARGS__})
#endif
  int r = 0;
  for (; r + 4 <= rows; r += 4) {
    int c = 0;
    for (; c + 4 <= columns; c += 4) {
      Four row[4];
      for (int i = 0; i < 4; i++) memcpy(&row[i], in + (size_t)(r + i) * is + c, 16);
      Four a = SHUFFLE(row[0], row[1], 0, 4, 1, 5), b = SHUFFLE(row[0], row[1], 2, 6, 3, 7);
      Four d = SHUFFLE(row[2], row[3], 0, 4, 1, 5), e = SHUFFLE(row[2], row[3], 2, 6, 3, 7);
      Four column[4] = {SHUFFLE(a, d, 0, 1, 4, 5), SHUFFLE(a, d, 2, 3, 6, 7),
                        SHUFFLE(b, e, 0, 1, 4, 5), SHUFFLE(b, e, 2, 3, 6, 7)};
      for (int i = 0; i < 4; i++) memcpy(out + (size_t)(c + i) * os + r, &column[i], 16);
    }
    for (; c < columns; c++)
      for (int i = 0; i < 4; i++) out[(size_t)c * os + r + i] = in[(size_t)(r + i) * is + c];
  }
  for (; r < rows; r++)
    for (int c = 0; c < columns; c++) out[(size_t)c * os + r] = in[(size_t)r * is + c];
}

enum Activation { TANH = 0, RELU = 1, ELU = 2 };

static inline void activate(float* y, size_t count, int activation) {
  if (activation == TANH)
    for (size_t i = 0; i < count; i += LANES) store(y + i, hyperbolic_tangent(load(y + i)));
  else if (activation == RELU)
    for (size_t i = 0; i < count; i += LANES) { Vec x = load(y + i); store(y + i, x < 0 ? all(0) : x); }
  else
    for (size_t i = 0; i < count; i += LANES) { Vec x = load(y + i); store(y + i, x > 0 ? x : exponential(x) - 1.0f); }
}

// gradient *= the activation's slope, told from its output y.
static inline void descend_activation(float* gradient, const float* y, size_t count, int activation) {
  for (size_t i = 0; i < count; i += LANES) {
    Vec g = load(gradient + i), a = load(y + i);
    if (activation == TANH) g *= 1.0f - a * a;
    else if (activation == RELU) g = a > 0 ? g : all(0);
    else g = a > 0 ? g : g * (a + 1.0f);
    store(gradient + i, g);
  }
}

struct Tower {
  int layers, activation;
  std::vector<int> size, wide;                      // of the vectors between layers; the same, padded
  std::vector<Aligned> forwards, backwards, bias;   // weights [in][out] and [out][in], padded
  std::vector<Aligned> between, gradient;           // one block's vectors, and the loss's gradient with respect to them
  std::vector<Aligned> weight_sum, bias_sum;        // the parameters' gradient so far, the longer side contiguous

  Tower(int layers, const int* sizes, int activation) : layers(layers), activation(activation) {
    for (int i = 0; i <= layers; i++) {
      size.push_back(sizes[i]);
      wide.push_back(padded(sizes[i]));
      between.emplace_back((size_t)BLOCK * wide[i]);
      gradient.emplace_back((size_t)BLOCK * wide[i]);
    }
    for (int i = 0; i < layers; i++) {
      forwards.emplace_back((size_t)size[i] * wide[i + 1]);
      backwards.emplace_back((size_t)size[i + 1] * wide[i]);
      bias.emplace_back(wide[i + 1]);
      weight_sum.emplace_back((size_t)std::min(size[i], size[i + 1]) * std::max(wide[i], wide[i + 1]));
      bias_sum.emplace_back(wide[i + 1]);
    }
  }

  size_t parameters() const {
    size_t count = 0;
    for (int i = 0; i < layers; i++) count += (size_t)(size[i] + 1) * size[i + 1];
    return count;
  }

  // Take over parameters as torch keeps them: per layer the weight [out][in], then the bias.
  void take(const float* parameter, bool learning) {
    for (int i = 0; i < layers; i++) {
      transpose(parameter, size[i], forwards[i], wide[i + 1], size[i + 1], size[i]);
      if (learning || narrow(i))
        for (int o = 0; o < size[i + 1]; o++)
          memcpy(backwards[i] + (size_t)o * wide[i], parameter + (size_t)o * size[i], size[i] * sizeof(float));
      parameter += (size_t)size[i] * size[i + 1];
      memcpy(bias[i], parameter, size[i + 1] * sizeof(float));
      parameter += size[i + 1];
      if (learning) {
        memset(weight_sum[i], 0, sizeof(float) * std::min(size[i], size[i + 1]) * std::max(wide[i], wide[i + 1]));
        memset(bias_sum[i], 0, sizeof(float) * wide[i + 1]);
      }
    }
  }

  // Whether layer i is a last one of so few outputs that sums along its rows are shorter than vectors of columns.
  bool narrow(int i) const { return i + 1 == layers && size[i + 1] <= 3 && wide[i] <= 256; }

  const float* output() const { return between[layers]; }
  float* output_gradient() { return gradient[layers]; }

  // From the rows in between[0] (a multiple of ROWS of them) to those in output().
  void forward(int rows) {
    for (int i = 0; i < layers; i++) {
      if (narrow(i)) {
        multiply_narrow(between[i], wide[i], backwards[i], wide[i], bias[i], between[i + 1], wide[i + 1], rows, size[i + 1]);
        continue;
      }
      multiply(between[i], wide[i], forwards[i], wide[i + 1], bias[i], between[i + 1], wide[i + 1], rows, size[i], wide[i + 1]);
      if (i + 1 < layers) activate(between[i + 1], (size_t)rows * wide[i + 1], activation);
    }
  }

  // From output_gradient() to the sums, and with `input` to gradient[0]. Rows that are no samples must have gradient 0.
  void backward(int rows, bool input) {
    for (int i = layers - 1; i >= 0; i--) {
      const float *above = gradient[i + 1], *below = between[i];
      if (size[i + 1] >= size[i])
        accumulate(below, wide[i], above, wide[i + 1], weight_sum[i], wide[i + 1], rows, size[i], wide[i + 1]);
      else
        accumulate(above, wide[i + 1], below, wide[i], weight_sum[i], wide[i], rows, size[i + 1], wide[i]);
      for (int c = 0; c < wide[i + 1]; c += LANES) {
        Vec total = load(bias_sum[i] + c);
        for (int r = 0; r < rows; r++) total += load(above + (size_t)r * wide[i + 1] + c);
        store(bias_sum[i] + c, total);
      }
      if (i == 0 && !input) break;
      multiply(above, wide[i + 1], backwards[i], wide[i], nullptr, gradient[i], wide[i], rows, size[i + 1], wide[i]);
      if (i > 0) descend_activation(gradient[i], below, (size_t)rows * wide[i], activation);
    }
  }

  // Write the sums as torch keeps parameters.
  void give(float* out) const {
    for (int i = 0; i < layers; i++) {
      if (size[i + 1] >= size[i])
        transpose(weight_sum[i], wide[i + 1], out, size[i], size[i], size[i + 1]);
      else
        for (int o = 0; o < size[i + 1]; o++)
          memcpy(out + (size_t)o * size[i], weight_sum[i] + (size_t)o * wide[i], size[i] * sizeof(float));
      out += (size_t)size[i] * size[i + 1];
      memcpy(out, bias_sum[i], size[i + 1] * sizeof(float));
      out += size[i + 1];
    }
  }
};

static inline int whole_rows(int rows) { return (rows + ROWS - 1) / ROWS * ROWS; }
