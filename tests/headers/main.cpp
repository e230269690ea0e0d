int unit_a();
int unit_b();

int main() { return unit_a() == unit_b() ? 0 : 1; }
