from roomgrad_trebuchet.simulator import head, physics


def shoot(logits):
    """`(batch, 3)` wind and two logits in, `(batch,)` distance in m out."""
    found = head.controls(logits)
    return physics.shoot(found.wind, found.angle_rad, found.weight_kg).distance_m


def vjp(logits, upstream):
    """Derivatives: d loss / d distance in, d loss / d (wind, logits) out."""
    found = head.controls(logits)
    shots = physics.shoot(found.wind, found.angle_rad, found.weight_kg)
    by = head.jacobian(shots.d_wind, shots.d_angle, shots.d_weight, found)
    return head.vector_jacobian(upstream, by)
