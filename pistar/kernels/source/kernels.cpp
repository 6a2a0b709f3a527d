// What Python calls. Every function works on memory that the caller owns, on one thread but for the gradient, and keeps nothing but networks.
#include "network.hpp"
#include "worlds.hpp"

extern "C" {

// Sizes are of [inputs, hidden ..., outputs]; no critic where it has 0 layers. Null where memory is short.
Network* network_new(int head, int activation, int actor_layers, const int* actor_sizes, int critic_layers, const int* critic_sizes,
                     long actor_at, long critic_at, long log_std_at, float lowest, float highest) try {
  auto net = std::make_unique<Network>();
  net->actor = std::make_unique<Tower>(actor_layers, actor_sizes, activation);
  if (critic_layers) net->critic = std::make_unique<Tower>(critic_layers, critic_sizes, activation);
  net->head = head, net->inputs = actor_sizes[0], net->actions = actor_sizes[actor_layers];
  net->actor_at = actor_at, net->critic_at = critic_at, net->log_std_at = log_std_at;
  net->lowest = lowest, net->highest = highest;
  net->log_std.assign(net->actions, 0.0f), net->deviation.assign(net->actions, 1.0f);
  return net.release();
} catch (const std::bad_alloc&) { return nullptr; }

void network_free(Network* net) { delete net; }

void network_normalize(Network* net, const float* shift, const float* scale, const float* bound) {
  net->shift.assign(shift, shift + net->inputs);
  net->scale.assign(scale, scale + net->inputs);
  net->bound.assign(bound, bound + net->inputs);
}

void network_box(Network* net, const float* centre, const float* half_range, const float* low, const float* high) {
  int n = net->actions;
  net->centre.assign(centre, centre + n), net->half_range.assign(half_range, half_range + n);
  net->low.assign(low, low + n), net->high.assign(high, high + n);
}

// Before a rollout: the parameters that `network_act` uses until the next call.
void network_take(Network* net, const float* parameters) { take_actor(*net, parameters, false); }

void network_act(Network* net, long rows, const float* observation, const float* noise, float* outputs, void* action, float* executed) {
  outputs_of(*net, *net->actor, observation, rows, outputs);
  sample(*net, outputs, noise, rows, action, executed);
}

void network_gradient(Network* net, const float* parameters, const Minibatch* batch, const Loss* loss, float* gradient, Metrics* metrics) {
  *metrics = gradient_of(*net, parameters, *batch, *loss, gradient);
}

Tower* tower_new(int activation, int layers, const int* sizes) try { return new Tower(layers, sizes, activation); }
catch (const std::bad_alloc&) { return nullptr; }

void tower_free(Tower* tower) { delete tower; }

static void tower_place(Tower* tower, const float* x, int rows) {
  int size = tower->size[0], wide = tower->wide[0];
  for (int r = 0; r < rows; r++) memcpy(tower->between[0] + (size_t)r * wide, x + (size_t)r * size, size * sizeof(float));
  for (int r = rows; r < whole_rows(rows); r++) memset(tower->between[0] + (size_t)r * wide, 0, wide * sizeof(float));
}

void tower_forward(Tower* tower, const float* parameters, long rows, const float* x, float* y) {
  int inputs = tower->size[0], size = tower->size.back(), wide = tower->wide.back();
  tower->take(parameters, false);
  for (long at = 0; at < rows; at += BLOCK) {
    int here = (int)std::min<long>(BLOCK, rows - at);
    tower_place(tower, x + at * inputs, here);
    tower->forward(whole_rows(here));
    for (int r = 0; r < here; r++) memcpy(y + (at + r) * size, tower->output() + (size_t)r * wide, size * sizeof(float));
  }
}

// The gradients of parameters and, where `dx` is not null, of inputs, for output gradients `dy`; layers are computed anew.
void tower_backward(Tower* tower, const float* parameters, long rows, const float* x, const float* dy, float* gradient, float* dx) {
  int inputs = tower->size[0], size = tower->size.back(), wide = tower->wide.back();
  tower->take(parameters, true);
  for (long at = 0; at < rows; at += BLOCK) {
    int here = (int)std::min<long>(BLOCK, rows - at), whole = whole_rows(here);
    tower_place(tower, x + at * inputs, here);
    tower->forward(whole);
    float* above = tower->output_gradient();
    for (int r = 0; r < here; r++) memcpy(above + (size_t)r * wide, dy + (at + r) * size, size * sizeof(float));
    for (int r = here; r < whole; r++) memset(above + (size_t)r * wide, 0, wide * sizeof(float));
    tower->backward(whole, dx != nullptr);
    if (dx)
      for (int r = 0; r < here; r++)
        memcpy(dx + (at + r) * inputs, tower->gradient[0] + (size_t)r * tower->wide[0], inputs * sizeof(float));
  }
  tower->give(gradient);
}

// `world` counts from 0 in the order of pistar/envs/native_kernel.py.
long world_step(int world, const Lanes* lanes, const void* action) {
  return (world == 0 ? step_lanes<CartPole> : world == 1 ? step_lanes<Pendulum> : step_lanes<ArmReach>)(*lanes, action);
}

void world_look(int world, const Lanes* lanes, const bool* chosen) {
  (world == 0 ? look<CartPole> : world == 1 ? look<Pendulum> : look<ArmReach>)(*lanes, chosen);
}

double norm(long count, const float* x) {
  double total = 0;
  long i = 0;
  for (; i + 1024 <= count; i += 1024) {
    Vec part = all(0);
    for (int j = 0; j < 1024; j += LANES) { Vec v = load(x + i + j); part += v * v; }
    total += sum(part);
  }
  for (; i < count; i++) total += (double)x[i] * x[i];
  return (float)std::sqrt(total);  // infinite where a float32 norm is: such a step is refused
}

// Adam (Kingma & Ba 2015, algorithm 1) on scale * gradient; `step` counts from 1.
void adam(long count, float* x, const float* gradient, float scale, float* mean, float* square, float rate, double step, float epsilon) {
  const float first = 0.9f, second = 0.999f;
  float slope = (float)(rate / (1 - std::pow(0.9, step)));
  float root = (float)(1 / std::sqrt(1 - std::pow(0.999, step)));
  for (long i = 0; i < count; i++) {
    float g = gradient[i] * scale;
    mean[i] += (1 - first) * (g - mean[i]);
    square[i] = second * square[i] + (1 - second) * g * g;
    x[i] -= slope * mean[i] / (std::sqrt(square[i]) * root + epsilon);
  }
}

}  // extern "C"
