// An actor, perhaps a critic, and the loss of the algorithms that train them: acting, and the gradient of a minibatch.
#pragma once
#include "partner.hpp"
#include "tower.hpp"

enum Head { CATEGORICAL = 0, GAUSSIAN = 1 };
enum Surrogate { SCORE = 0, CLIPPED = 1, NONE = 2 };  // NONE: the critic is learned by itself

struct Network {
  Partner partner;
  std::unique_ptr<Tower> actor, critic;
  int head, inputs, actions;
  long actor_at, critic_at, log_std_at;     // places in the flat parameters
  std::vector<float> shift, scale, bound;   // of the normaliser; empty: none
  std::vector<float> log_std, deviation;    // bounded, as they act
  float lowest, highest;                    // log deviation
  std::vector<float> centre, half_range, low, high;  // of a box; start of a discrete space is added by the caller
};

struct Minibatch {
  long rows;
  const float* observation;  // [rows][inputs]
  const void* action;        // int64 [rows], or float [rows][actions]
  const float *log_prob, *advantage, *target;  // [rows]
  const float* weight;       // [rows], or null: all count
};

struct Loss {
  int surrogate, standardize, threads;
  float clip, entropy_weight, value_weight;
};

struct Metrics {
  double loss, surrogate, entropy, value_error, kl, clip_fraction;
};

static inline void take_actor(Network& net, const float* parameters, bool learning) {
  net.actor->take(parameters + net.actor_at, learning);
  if (net.head == GAUSSIAN)
    for (int i = 0; i < net.actions; i++) {
      float x = parameters[net.log_std_at + i];
      x = x < net.lowest ? net.lowest : x > net.highest ? net.highest : x;
      net.log_std[i] = x;
      net.deviation[i] = std::exp(x);
    }
}

// Rows of observations, normalised, into a tower's first block; rows up to a multiple of ROWS become 0.
static inline void place(const Network& net, Tower& tower, const float* x, const float* weight, int rows) {
  int inputs = net.inputs, wide = tower.wide[0];
  float* out = tower.between[0];
  for (int r = 0; r < rows; r++, out += wide, x += inputs) {
    if (weight && weight[r] == 0) { memset(out, 0, wide * sizeof(float)); continue; }
    if (net.shift.empty()) { memcpy(out, x, inputs * sizeof(float)); continue; }
    for (int i = 0; i < inputs; i++) {
      float y = (x[i] - net.shift[i]) * net.scale[i];
      out[i] = y < -net.bound[i] ? -net.bound[i] : y > net.bound[i] ? net.bound[i] : y;
    }
  }
  for (int r = rows; r < whole_rows(rows); r++, out += wide) memset(out, 0, wide * sizeof(float));
}

// outputs [rows][actions]: the head's inputs.
static inline void outputs_of(Network& net, Tower& tower, const float* x, long rows, float* out) {
  int size = tower.size.back(), wide = tower.wide.back();
  for (long at = 0; at < rows; at += BLOCK) {
    int here = (int)std::min<long>(BLOCK, rows - at);
    place(net, tower, x + at * net.inputs, nullptr, here);
    tower.forward(whole_rows(here));
    for (int r = 0; r < here; r++) memcpy(out + (at + r) * size, tower.output() + (size_t)r * wide, size * sizeof(float));
  }
}

// Actions as functions of noise: the policy's own, and for a box also the environment's.
static inline void sample(const Network& net, const float* outputs, const float* noise, long rows, void* action, float* executed) {
  int n = net.actions;
  for (long r = 0; r < rows; r++, outputs += n) {
    if (net.head == GAUSSIAN) {
      float* a = static_cast<float*>(action) + r * n;
      for (int i = 0; i < n; i++) {
        a[i] = outputs[i] + net.deviation[i] * noise[r * n + i];
        float y = net.centre[i] + net.half_range[i] * a[i];
        executed[r * n + i] = y < net.low[i] ? net.low[i] : y > net.high[i] ? net.high[i] : y;
      }
      continue;
    }
    float largest = outputs[0], total = 0;
    for (int i = 1; i < n; i++) largest = std::max(largest, outputs[i]);
    for (int i = 0; i < n; i++) total += std::exp(outputs[i] - largest);
    float threshold = noise[r] * total, sum = 0;
    int64_t chosen = -1;
    for (int i = 0; i < n; i++) {
      float p = std::exp(outputs[i] - largest);
      sum += p;
      if (p > 0 && sum > threshold) { chosen = i; break; }
    }
    if (chosen < 0) for (int i = 0; i < n; i++) if (outputs[i] == largest) { chosen = i; break; }  // rounding, or NaN
    static_cast<int64_t*>(action)[r] = chosen < 0 ? 0 : chosen;
  }
}

struct Standard { float mean, inverse; };

static inline Standard standard(const Minibatch& b, double total, bool wanted) {
  if (!wanted) return {0.0f, 1.0f};
  double first = 0, second = 0;
  float least = INFINITY, most = -INFINITY;
  for (long i = 0; i < b.rows; i++) {
    double w = b.weight ? b.weight[i] : 1.0;
    if (w == 0) continue;
    first += w * b.advantage[i];
    least = std::min(least, b.advantage[i]), most = std::max(most, b.advantage[i]);
  }
  double mean = total > 0 ? first / total : 0;
  for (long i = 0; i < b.rows; i++) {
    double w = b.weight ? b.weight[i] : 1.0;
    if (w != 0) second += w * (b.advantage[i] - mean) * (b.advantage[i] - mean);
  }
  double variance = total > 0 ? second / total : 0;
  bool flat = !(least < most) || variance == 0;
  if (variance != variance) return {NAN, NAN};
  return {(float)mean, flat ? 0.0f : (float)(1 / std::sqrt(variance))};
}

// What one block's rows add to the loss; leaves the gradients of the towers' outputs behind.
struct Ledger {
  double surrogate = 0, entropy = 0, value_error = 0, kl = 0, clipped = 0;
  std::vector<double> log_std;
};

static inline void value_gradient(Tower& critic, const Minibatch& b, long at, int rows, double total, float value_weight, Ledger& ledger) {
  int wide = critic.wide.back();
  const float* value = critic.output();
  float* gradient = critic.output_gradient();
  for (int r = 0; r < whole_rows(rows); r++) {
    float w = r < rows ? (b.weight ? b.weight[at + r] : 1.0f) : 0.0f;
    float error = w == 0 ? 0.0f : value[(size_t)r * wide] - b.target[at + r];
    ledger.value_error += (double)w * error * error;
    gradient[(size_t)r * wide] = (float)(2.0 * value_weight * w / total) * error;
  }
}

// Per row: how much the surrogate pays for log-probability. Returns d surrogate / d log pi, before the mean.
static inline Vec pay(Vec log_ratio, Vec advantage, const Loss& loss, Vec log_prob, Vec counts, Ledger& ledger) {
  if (loss.surrogate == SCORE) {
    ledger.surrogate += sum(log_prob * advantage * counts);
    return advantage;
  }
  Vec ratio = exponential(log_ratio), free = ratio * advantage;
  Vec held = at_most(at_least(ratio, all(1 - loss.clip)), all(1 + loss.clip)) * advantage;
  ledger.surrogate += sum((held < free ? held : free) * counts);
  // r - 1 - log r, by its series where the difference would cancel.
  Vec square = log_ratio * log_ratio;
  Vec series = square * (0.5f + log_ratio * (1.0f / 6) + square * (1.0f / 24));
  Vec size = log_ratio < 0 ? -log_ratio : log_ratio;
  ledger.kl += sum((size < 0.05f ? series : ratio - 1.0f - log_ratio) * counts);
  Vec away = ratio - 1.0f;
  away = away < 0 ? -away : away;
  ledger.clipped += sum((away > loss.clip ? all(1) : all(0)) * counts);
  return held < free ? all(0) : free;
}

struct Rows { Vec counts, old, advantage; };  // one vector of samples; what is no sample, or has weight 0, is all 0

static inline Rows rows_of(const Minibatch& b, long at, int here, Standard standard) {
  Rows rows;
  rows.counts = gathered(here, [&](int i) { return b.weight ? b.weight[at + i] : 1.0f; });
  rows.old = gathered(here, [&](int i) { return b.log_prob[at + i]; });
  rows.advantage = (gathered(here, [&](int i) { return b.advantage[at + i]; }) - standard.mean) * standard.inverse;
  rows.old = rows.counts == 0 ? all(0) : rows.old;
  rows.advantage = rows.counts == 0 ? all(0) : rows.advantage;
  return rows;
}

// One output's gradients into its column; rows that are no samples get 0.
static inline void scatter(float* column, int stride, Vec values, int here) {
  float part[LANES];
  store(part, values);
  for (int i = 0; i < LANES; i++) column[(size_t)i * stride] = i < here ? part[i] : 0.0f;
}

static inline void categorical_gradient(Network& net, const Minibatch& b, long at, int rows, double total, const Loss& loss, Standard standard, Ledger& ledger) {
  Tower& actor = *net.actor;
  int n = net.actions, wide = actor.wide.back();
  const float* outputs = actor.output();
  float* gradient = actor.output_gradient();
  const int64_t* action = static_cast<const int64_t*>(b.action) + at;
  float inverse = (float)(1 / total);
  std::vector<Vec> log_p(n), p(n), chosen(n);
  for (int r0 = 0; r0 < whole_rows(rows); r0 += LANES) {
    int here = std::min(LANES, rows - r0);  // the rest are no samples
    Vec largest = all(-INFINITY), total_p = all(0), log_prob = all(0);
    Rows batch = rows_of(b, at + r0, here, standard);
    Vec counts = batch.counts;
    for (int k = 0; k < n; k++) {
      log_p[k] = gathered(LANES, [&](int i) { return outputs[(size_t)(r0 + i) * wide + k]; });
      largest = log_p[k] > largest ? log_p[k] : largest;
    }
    for (int k = 0; k < n; k++) { p[k] = exponential(log_p[k] - largest); total_p += p[k]; }
    float totals[LANES];
    store(totals, total_p);
    Vec log_total = largest + gathered(LANES, [&](int i) { return std::log(totals[i]); });
    Vec entropy = all(0);
    for (int k = 0; k < n; k++) {
      log_p[k] -= log_total;
      p[k] /= total_p;
      entropy -= p[k] > 0 ? p[k] * log_p[k] : all(0);
      chosen[k] = gathered(here, [&](int i) { return action[r0 + i] == k ? 1.0f : 0.0f; });
      log_prob = chosen[k] > 0 ? log_p[k] : log_prob;
    }
    Vec silent = counts == 0 ? all(1) : all(0);
    log_prob = silent > 0 ? all(0) : log_prob;
    ledger.entropy += sum((silent > 0 ? all(0) : entropy) * counts);
    Vec paid = pay(log_prob - batch.old, batch.advantage, loss, log_prob, counts, ledger) * counts * inverse;
    Vec bonus = counts * (loss.entropy_weight * inverse);
    for (int k = 0; k < n; k++) {
      Vec slope = bonus * (p[k] > 0 ? p[k] * (log_p[k] + entropy) : all(0)) - paid * (chosen[k] - p[k]);
      scatter(gradient + (size_t)r0 * wide + k, wide, silent > 0 ? all(0) : slope, here);
    }
  }
}

static inline void gaussian_gradient(Network& net, const Minibatch& b, long at, int rows, double total, const Loss& loss, Standard standard, Ledger& ledger) {
  Tower& actor = *net.actor;
  int n = net.actions, wide = actor.wide.back();
  const float* mean = actor.output();
  float* gradient = actor.output_gradient();
  const float* action = static_cast<const float*>(b.action) + at * n;
  float inverse = (float)(1 / total), constant = 0;
  for (int k = 0; k < n; k++) constant -= net.log_std[k] + 0.918938533f;  // log sqrt(2 pi)
  std::vector<Vec> z(n);
  std::vector<float> precision(n);
  for (int k = 0; k < n; k++) precision[k] = 1 / net.deviation[k];
  for (int r0 = 0; r0 < whole_rows(rows); r0 += LANES) {
    int here = std::min(LANES, rows - r0);
    Rows batch = rows_of(b, at + r0, here, standard);
    Vec counts = batch.counts, squares = all(0);
    for (int k = 0; k < n; k++) {
      Vec x = gathered(here, [&](int i) { return action[(size_t)(r0 + i) * n + k] - mean[(size_t)(r0 + i) * wide + k]; });
      z[k] = (counts == 0 ? all(0) : x) * precision[k];
      squares += z[k] * z[k];
    }
    Vec log_prob = counts == 0 ? all(0) : squares * -0.5f + constant;
    Vec paid = pay(log_prob - batch.old, batch.advantage, loss, log_prob, counts, ledger) * counts * inverse;
    paid = counts == 0 ? all(0) : paid;
    for (int k = 0; k < n; k++) {
      Vec slope = paid * z[k] * -precision[k];
      ledger.log_std[k] -= sum(paid * (z[k] * z[k] - 1.0f));
      scatter(gradient + (size_t)r0 * wide + k, wide, slope, here);
    }
  }
}

// Every block of a minibatch through one tower, up to its loss and back.
template <class Side>
static inline void through(Network& net, Tower& tower, const Minibatch& b, Side loss) {
  for (long at = 0; at < b.rows; at += BLOCK) {
    int rows = (int)std::min<long>(BLOCK, b.rows - at), whole = whole_rows(rows);
    place(net, tower, b.observation + at * net.inputs, b.weight ? b.weight + at : nullptr, rows);
    tower.forward(whole);
    loss(at, rows);
    tower.backward(whole, false);
  }
}

// The gradient of c (V - target)^2 - surrogate - beta H over a minibatch, into `out`, which is all parameters' long.
// Actor and critic share nothing but the minibatch: with two threads they go side by side, and no bit is another.
static inline Metrics gradient_of(Network& net, const float* parameters, const Minibatch& b, const Loss& loss, float* out) {
  double total = 0;
  if (b.weight) for (long i = 0; i < b.rows; i++) total += b.weight[i];
  else total = (double)b.rows;
  double divisor = total > 0 ? total : 1.0;
  Ledger ledger, valued;
  ledger.log_std.assign(net.actions, 0.0);
  Standard scaled = standard(b, total, loss.standardize);
  auto critic = [&] {
    net.critic->take(parameters + net.critic_at, true);
    through(net, *net.critic, b, [&](long at, int rows) { value_gradient(*net.critic, b, at, rows, divisor, loss.value_weight, valued); });
    net.critic->give(out + net.critic_at);
  };
  auto actor = [&] {
    if (loss.surrogate == NONE) {
      memset(out + net.actor_at, 0, sizeof(float) * net.actor->parameters());
      if (net.head == GAUSSIAN) memset(out + net.log_std_at, 0, sizeof(float) * net.actions);
      return;
    }
    take_actor(net, parameters, true);
    through(net, *net.actor, b, [&](long at, int rows) {
      (net.head == CATEGORICAL ? categorical_gradient : gaussian_gradient)(net, b, at, rows, divisor, loss, scaled, ledger);
    });
    net.actor->give(out + net.actor_at);
  };
  if (loss.threads > 1 && loss.surrogate != NONE) net.partner.run(critic, actor);
  else actor(), critic();
  if (net.head == GAUSSIAN && loss.surrogate != NONE)
    for (int k = 0; k < net.actions; k++) {
      float raw = parameters[net.log_std_at + k], slope = (float)ledger.log_std[k];
      if (total > 0) slope -= loss.entropy_weight, ledger.entropy += total * (net.log_std[k] + 1.41893853);  // log sqrt(2 pi e)
      bool outward = (raw < net.lowest && slope > 0) || (raw > net.highest && slope < 0);
      out[net.log_std_at + k] = outward ? 0.0f : slope;
    }
  Metrics m;
  m.surrogate = ledger.surrogate / divisor, m.entropy = ledger.entropy / divisor, m.value_error = valued.value_error / divisor;
  m.kl = ledger.kl / divisor, m.clip_fraction = ledger.clipped / divisor;
  m.loss = loss.value_weight * m.value_error - m.surrogate - loss.entropy_weight * m.entropy;
  return m;
}
