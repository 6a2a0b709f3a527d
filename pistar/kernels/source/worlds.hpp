// The worlds of pistar/envs that are written in torch, stepped one lane after another. Equations and constants are theirs.
#pragma once
#include <cmath>
#include <cstdint>

// What a world keeps between steps, and where it leaves what it answers. All memory is Python's.
struct Lanes {
  long lanes;
  int64_t limit;             // steps of an episode
  uint64_t seed;             // of the episodes' starts
  float constant;            // what a world is made with
  int64_t *episode, *elapsed;
  float* state[3];           // in the order of the world's entries
  float *observation, *final_observation, *reward;
  bool *terminated, *truncated;
  float* info[2];
};

// SplitMix64's finaliser, and the numbers of pistar/envs/counter_random.py, bit for bit.
static inline uint64_t mixed(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

static inline void uniforms(uint64_t seed, uint64_t lane, uint64_t episode, int count, float* out) {
  const uint64_t golden = 0x9E3779B97F4A7C15ull;
  uint64_t start = mixed((episode + 1) * golden + mixed((lane + 1) * golden + seed));
  for (int i = 0; i < count; i++) out[i] = (float)(mixed(start + (i + 1) * golden) >> 40) * 0x1p-24f;
}

struct Outcome { float reward; bool terminated; };

constexpr float PI = 3.14159265358979f;

static inline float clamped(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

struct CartPole {
  static constexpr int DRAWS = 4, SEEN = 4, ACTIONS = 0;
  static void start(const Lanes& w, long lane, const float* u) {
    for (int i = 0; i < 4; i++) w.state[0][4 * lane + i] = (2 * u[i] - 1) * 0.05f;
  }
  static Outcome step(const Lanes& w, long lane, const void* action) {
    const float mass = 1.1f, moment = 0.05f, gravity = 9.8f, force = 10.0f, time = 0.02f;
    float *s = w.state[0] + 4 * lane, sine = std::sin(s[2]), cosine = std::cos(s[2]);
    float push = static_cast<const int64_t*>(action)[lane] ? force / mass : -force / mass;
    float pull = push + moment / mass * s[3] * s[3] * sine;
    float angular = (gravity * sine - cosine * pull) / (0.5f * 4 / 3 - 0.5f * 0.1f / mass * cosine * cosine);
    float linear = pull - moment / mass * angular * cosine;
    s[0] += time * s[1], s[1] += time * linear, s[2] += time * s[3], s[3] += time * angular;
    return {1.0f, std::fabs(s[0]) > 2.4f || std::fabs(s[2]) > 12 * 2 * PI / 360};
  }
  static void observe(const Lanes& w, long lane, float* out) { for (int i = 0; i < 4; i++) out[i] = w.state[0][4 * lane + i]; }
};

struct Pendulum {
  static constexpr int DRAWS = 2, SEEN = 3, ACTIONS = 1;
  static void start(const Lanes& w, long lane, const float* u) {
    w.state[0][lane] = (2 * u[0] - 1) * PI, w.state[1][lane] = 2 * u[1] - 1;
  }
  static Outcome step(const Lanes& w, long lane, const void* action) {
    float &angle = w.state[0][lane], &turning = w.state[1][lane];
    float torque = clamped(static_cast<const float*>(action)[lane], -2, 2);
    float upright = std::fmod(angle + PI, 2 * PI);
    upright = (upright < 0 ? upright + 2 * PI : upright) - PI;
    float cost = upright * upright + 0.1f * turning * turning + 0.001f * torque * torque;
    turning = clamped(turning + 0.05f * (15.0f * std::sin(angle) + 3.0f * torque), -8, 8);
    angle += 0.05f * turning;
    return {-cost, false};
  }
  static void observe(const Lanes& w, long lane, float* out) {
    out[0] = std::cos(w.state[0][lane]), out[1] = std::sin(w.state[0][lane]), out[2] = w.state[1][lane];
  }
};

struct ArmReach {
  static constexpr int DRAWS = 6, SEEN = 10, ACTIONS = 2;
  static constexpr float L1 = 0.5f, L2 = 0.4f, M1 = 1.0f, M2 = 0.8f;
  static void start(const Lanes& w, long lane, const float* u) {
    const float near = 0.15f * 0.15f, far = 0.85f * 0.85f;
    float radius = std::sqrt(near + (far - near) * u[4]), angle = (2 * u[5] - 1) * PI;
    for (int i = 0; i < 2; i++) w.state[0][2 * lane + i] = (2 * u[i] - 1) * PI, w.state[1][2 * lane + i] = (2 * u[2 + i] - 1) * 0.1f;
    w.state[2][2 * lane] = radius * std::cos(angle), w.state[2][2 * lane + 1] = radius * std::sin(angle);
  }
  // Angles' and velocities' rates of change.
  static void rates(float gravity, const float* q, const float* v, const float* torque, float* dq, float* dv) {
    float bent = M2 * L1 * L2 / 2 * std::cos(q[1]), forearm = M2 * L2 * L2 / 3;
    float m11 = M1 * L1 * L1 / 3 + M2 * L1 * L1 + forearm + 2 * bent, m12 = forearm + bent, m22 = forearm;
    float coupling = M2 * L1 * L2 / 2 * std::sin(q[1]), upper = 0, lower = 0;
    if (gravity != 0) {
      lower = gravity * M2 * L2 / 2 * std::cos(q[0] + q[1]);
      upper = gravity * (M1 / 2 + M2) * L1 * std::cos(q[0]) + lower;
    }
    float one = torque[0] - 0.1f * v[0] - upper + coupling * v[1] * (2 * v[0] + v[1]);
    float two = torque[1] - 0.1f * v[1] - lower - coupling * v[0] * v[0];
    float determinant = m11 * m22 - m12 * m12;
    dq[0] = v[0], dq[1] = v[1];
    dv[0] = (m22 * one - m12 * two) / determinant, dv[1] = (m11 * two - m12 * one) / determinant;
  }
  static void runge_kutta(float gravity, float* q, float* v, const float* torque, float h) {
    const float part[4] = {0, h / 2, h / 2, h}, share[4] = {h / 6, h / 3, h / 3, h / 6};
    float dq[2] = {0, 0}, dv[2] = {0, 0}, q1[2] = {q[0], q[1]}, v1[2] = {v[0], v[1]};
    for (int k = 0; k < 4; k++) {
      float at[2] = {q[0] + part[k] * dq[0], q[1] + part[k] * dq[1]}, fast[2] = {v[0] + part[k] * dv[0], v[1] + part[k] * dv[1]};
      rates(gravity, at, fast, torque, dq, dv);
      for (int i = 0; i < 2; i++) q1[i] += share[k] * dq[i], v1[i] += share[k] * dv[i];
    }
    for (int i = 0; i < 2; i++) q[i] = q1[i], v[i] = v1[i];
  }
  static void fingertip(const float* q, float* tip) {
    tip[0] = L1 * std::cos(q[0]) + L2 * std::cos(q[0] + q[1]), tip[1] = L1 * std::sin(q[0]) + L2 * std::sin(q[0] + q[1]);
  }
  static Outcome step(const Lanes& w, long lane, const void* action) {
    float *q = w.state[0] + 2 * lane, *v = w.state[1] + 2 * lane, effort[2], torque[2], tip[2];
    for (int i = 0; i < 2; i++) effort[i] = clamped(static_cast<const float*>(action)[2 * lane + i], -1, 1);
    torque[0] = 4 * effort[0], torque[1] = 2 * effort[1];
    for (int i = 0; i < 2; i++) runge_kutta(w.constant, q, v, torque, 0.02f);
    fingertip(q, tip);
    const float* target = w.state[2] + 2 * lane;
    float distance = std::sqrt((tip[0] - target[0]) * (tip[0] - target[0]) + (tip[1] - target[1]) * (tip[1] - target[1]));
    w.info[0][lane] = distance, w.info[1][lane] = distance < 0.03f;
    return {-distance - 0.01f * (effort[0] * effort[0] + effort[1] * effort[1]), false};
  }
  static void observe(const Lanes& w, long lane, float* out) {
    const float *q = w.state[0] + 2 * lane, *v = w.state[1] + 2 * lane, *target = w.state[2] + 2 * lane;
    float tip[2];
    fingertip(q, tip);
    for (int i = 0; i < 2; i++)
      out[i] = std::cos(q[i]), out[2 + i] = std::sin(q[i]), out[4 + i] = target[i], out[6 + i] = v[i], out[8 + i] = tip[i] - target[i];
  }
};

// The start of a lane's running episode. Here and below no copy of it is inlined: each could be rounded in its own way.
template <class World>
__attribute__((noinline)) static void begin(const Lanes& w, long lane) {
  float u[World::DRAWS];
  uniforms(w.seed, lane, w.episode[lane], World::DRAWS, u);
  World::start(w, lane, u);
}

template <class World>
__attribute__((noinline)) static void see(const Lanes& w, long lane) { World::observe(w, lane, w.observation + World::SEEN * lane); }

// Where `chosen` says so, to the start of the running episode; then what every lane sees.
template <class World>
static void look(const Lanes& w, const bool* chosen) {
  for (long lane = 0; lane < w.lanes; lane++) {
    if (chosen[lane]) begin<World>(w, lane);
    see<World>(w, lane);
  }
}

// How many lanes ended; or -1 - lane, with nothing changed, where an action is not finite.
template <class World>
static long step_lanes(const Lanes& w, const void* action) {
  if constexpr (World::ACTIONS > 0)
    for (long i = 0; i < w.lanes * World::ACTIONS; i++)
      if (!std::isfinite(static_cast<const float*>(action)[i])) return -1 - i / World::ACTIONS;
  long ended = 0;
  for (long lane = 0; lane < w.lanes; lane++) {
    Outcome outcome = World::step(w, lane, action);
    w.reward[lane] = outcome.reward, w.terminated[lane] = outcome.terminated;
    bool truncated = w.truncated[lane] = ++w.elapsed[lane] >= w.limit;
    see<World>(w, lane);
    if (!outcome.terminated && !truncated) continue;
    long at = World::SEEN * lane;
    memcpy(w.final_observation + at, w.observation + at, sizeof(float) * World::SEEN);
    w.elapsed[lane] = 0, w.episode[lane]++, ended++;
    begin<World>(w, lane);
    see<World>(w, lane);
  }
  return ended;
}
